"""Does a recording fit together? Found out before the work begins."""

from collections.abc import Iterator

from mouselift.data.recording.footage import Footage
from mouselift.data.recording.record import Recording
from mouselift.errors import InputError

FPS_TOLERANCE = 0.01  # relative


def check_recording(recording: Recording) -> list[str]:
    """What is wrong with a recording, one line each: what was expected, what was found, where.

    Decodes nothing. Frames that are missing in every view alike are pauses of the recording, not faults.
    """
    problems = [*_lengths(recording)]
    for view in recording.views:
        problems += [f"camera {view.name}: {problem}" for problem in _parts(view.frames)]
        if view.masks is not None:
            problems += [f"camera {view.name}: masks: {problem}" for problem in _parts(view.masks)]
    return [*problems, *_masks(recording), *_times(recording), *_calibration(recording)]


def require_sound(recording: Recording) -> None:
    """Refuse a recording that does not fit together.

    Raises:
        InputError: The first problem, and how many others there are.
    """
    problems = check_recording(recording)
    if problems:
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{recording.root}: {problems[0]}{others}")


def _lengths(recording: Recording) -> Iterator[str]:
    counts = {view.name: view.frames.num_frames for view in recording.views}
    if recording.sync is None:
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            yield f"expected equally long videos, found frames: {listed}"
        return
    for (name, count), last in zip(counts.items(), recording.sync.max(axis=0), strict=True):
        if last >= count:
            yield f"camera {name}: expected frame {last} as the sync table says, found frames 0 to {count - 1}"


def _parts(footage: Footage) -> Iterator[str]:
    for part in footage.parts:
        if (part.width, part.height) != footage.size:
            width, height = footage.size
            yield f"{part.path}: expected {width}x{height} px as before, found {part.width}x{part.height}"
    for video in footage.videos:
        if video.rotation_deg:
            yield (
                f"{video.path}: expected a picture as the sensor saw it, found metadata that turn it by "
                f"{video.rotation_deg} degrees; some programs do, some do not: write the file anew without them"
            )
    for part, start, promised in zip(
        footage.parts, footage.starts, footage.promised_starts or footage.starts, strict=True
    ):
        if start != promised:
            yield f"{part.path}: expected {promised} frames before it as its name says, found {start}"
            return


def _masks(recording: Recording) -> Iterator[str]:
    without = [view.name for view in recording.views if not view.has_masks]
    if without and len(without) < len(recording.views):
        yield f"expected masks of every camera or of none, found none of {', '.join(without)}"
    for view in recording.views:
        if view.masks is None:
            continue
        if view.masks.num_frames != view.frames.num_frames:
            yield (
                f"camera {view.name}: expected as many masks as frames, found {view.masks.num_frames} masks "
                f"and {view.frames.num_frames} frames"
            )
        if view.masks.size != view.frames.size:
            (width, height), (mask_width, mask_height) = view.frames.size, view.masks.size
            yield f"camera {view.name}: expected masks of {width}x{height} px, found {mask_width}x{mask_height}"


def _times(recording: Recording) -> Iterator[str]:
    """What time stamps say; a sync table overrules them."""
    if recording.sync is not None:
        return
    rates = {view.name: view.frames.fps for view in recording.views if view.frames.fps}
    if rates and max(rates.values()) > min(rates.values()) * (1 + FPS_TOLERANCE):
        listed = ", ".join(f"{name} {fps:g}" for name, fps in rates.items())
        yield f"expected one frame rate, found frames a second: {listed}"
    varying = [str(video.path) for view in recording.views for video in view.frames.videos if video.variable]
    if varying:
        others = f" and {len(varying) - 1} more" if len(varying) > 1 else ""
        yield (
            f"{varying[0]}{others}: expected a constant frame rate, found one that varies: equal frame numbers may not "
            "be equal times; give a sync table (docs/recordings.md)"
        )
    if len({view.frames.gaps for view in recording.views}) > 1:
        for view in recording.views:
            for gap in view.frames.gaps:
                yield (
                    f"camera {view.name}: expected no missing frames, found a gap of {gap.missing} after frame "
                    f"{gap.after} that other cameras do not have"
                )


def _calibration(recording: Recording) -> Iterator[str]:
    if recording.calibration is None:
        return
    for camera, view in zip(recording.calibration.cameras, recording.views, strict=True):
        width, height = view.frames.size
        if camera.width is not None and (camera.width, camera.height) != (width, height):
            yield (
                f"camera {view.name}: expected {camera.width}x{camera.height} px as the calibration says, "
                f"found {width}x{height}"
            )
