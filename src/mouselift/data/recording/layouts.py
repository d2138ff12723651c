"""Recordings as laboratories have them: the layout is recognised by what lies in the folder."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mouselift.data.calibration import read_calibration
from mouselift.data.calibration.record import Calibration
from mouselift.data.recording.explicit import RECORDING_FILE, read_recording_file
from mouselift.data.recording.files import (
    CameraFiles,
    RecordingFiles,
    folders_in,
    footage_in,
    is_chunk,
    masks_in,
    match_names,
    videos_in,
)
from mouselift.data.recording.footage import scan_footage
from mouselift.data.recording.record import Recording, ViewSource
from mouselift.data.recording.sync import read_sync
from mouselift.errors import InputError

MASK_FOLDER = "masks"
CALIBRATION_PATTERNS = (
    "new_cam.pkl",
    "*dannce.mat",
    "*.anipose.toml",
    "*calibration*.toml",
    "*calibration*.yaml",
    "*calibration*.yml",
    "*calibration*.json",
    "opencv_cameras.json",
    "transforms.json",
)
CALIBRATION_FOLDERS = ("calibration", "sparse")  # one file a camera (JARVIS, DANNCE's *_params.mat), or COLMAP's
EXPECTED = (
    "videos_undist/0.mp4 ..., videos/Camera1/0.mp4 ..., one folder or one video file for each camera, or "
    f"{RECORDING_FILE}"
)


def open_recording(path: Path | str, *, calibration: Path | str | None = None, mm_per_unit: float = 1.0) -> Recording:
    """Recognise a recording, scan its files and name its views as the calibration names the cameras.

    Nothing is decoded but the first frame of each file. `check_recording` tells whether the files fit together.

    Args:
        path: A folder, or a YAML file that says what lies where (docs/recordings.md).
        calibration: Overrides what lies in the folder.
        mm_per_unit: Of a calibration that is not in mm; a YAML file that states it wins.

    Raises:
        InputError: No known layout, several calibrations, names that do not match, or a file that cannot be read.
    """
    try:
        return _open(Path(path), calibration, mm_per_unit)
    except OSError as error:  # a folder that may not be listed, a drive that went away
        raise InputError(
            f"{error.filename or path}: expected a recording that can be read, found: {error.strerror}"
        ) from None


def _open(root: Path, calibration: Path | str | None, mm_per_unit: float) -> Recording:
    if not root.exists():
        raise InputError(f"expected a recording, found nothing at {root}")
    found = _find(root)
    chosen = Path(calibration) if calibration is not None else found.calibration
    if chosen is None and root.is_dir():
        chosen = _find_calibration(root)
    scale = mm_per_unit if found.mm_per_unit is None else found.mm_per_unit
    rig = None if chosen is None else read_calibration(chosen, mm_per_unit=scale)
    if rig is not None and found.subset:
        rig = _only(rig, found.cameras)
    pairs = {name: name for name in found.cameras}
    if rig is not None:
        pairs = match_names(rig.names, list(found.cameras), root)
    views = tuple(_scan_view(name, found.cameras[file_name], found.alpha) for name, file_name in pairs.items())
    return Recording(
        root=root,
        layout=found.layout,
        calibration=rig,
        views=views,
        sync=None if found.sync is None else read_sync(found.sync, tuple(pairs), tuple(pairs.values())),
        fps=found.fps or next((view.frames.fps for view in views if view.frames.fps), None),
        keypoints=found.keypoints,
    )


def _scan_view(name: str, files: CameraFiles, alpha: bool | None) -> ViewSource:
    frames = scan_footage(files.frames, named_by_first_frame=files.named_by_first_frame)
    if alpha and not frames.has_alpha:
        raise InputError(f"{files.frames[0]}: expected masks in an alpha channel, found no such channel")
    return ViewSource(
        name=name,
        frames=frames,
        masks=scan_footage(files.masks) if files.masks else None,
        alpha=frames.has_alpha and not files.masks if alpha is None else alpha,
    )


def _only(rig: Calibration, names: Mapping[str, CameraFiles]) -> Calibration:
    """The cameras that a YAML file uses."""
    kept = tuple(camera for camera in rig.cameras if camera.name in names)
    return replace(rig, cameras=kept) if len(kept) == len(names) else rig  # else matching names says what is wrong


def _find(root: Path) -> RecordingFiles:
    if root.is_file():
        return read_recording_file(root)
    if (root / RECORDING_FILE).is_file():
        return read_recording_file(root / RECORDING_FILE)
    if (root / "videos_undist").is_dir():
        return _mammal(root)
    base = root / "videos" if (root / "videos").is_dir() else root
    reserved = {MASK_FOLDER, *CALIBRATION_FOLDERS}
    folders = {folder.name: footage_in(folder) for folder in folders_in(base) if folder.name not in reserved}
    folders = {name: paths for name, paths in folders.items() if paths}
    if len(folders) > 1:
        if all(path.is_file() and is_chunk(path) for paths in folders.values() for path in paths):
            return _dannce(root, folders)
        return _plain(root, "one folder for each camera", folders)
    videos = {video.stem: (video,) for video in videos_in(base)}
    if len(videos) > 1:
        return _plain(root, "one file for each camera", videos)
    raise InputError(f"{root}: expected {EXPECTED}; found none of these")


def _mammal(root: Path) -> RecordingFiles:
    videos = {video.stem: (video,) for video in videos_in(root / "videos_undist")}
    if not videos:
        raise InputError(f"{root / 'videos_undist'}: expected 0.mp4, 1.mp4 ..., found no videos")
    masks = masks_in(root / "simpleclick_undist", videos)
    calibration, keypoints = root / "new_cam.pkl", root / "keypoints2d_undist"
    return RecordingFiles(
        layout="MAMMAL (videos_undist, simpleclick_undist)",
        cameras={name: CameraFiles(frames=paths, masks=masks.get(name, ())) for name, paths in videos.items()},
        calibration=calibration if calibration.is_file() else None,
        keypoints=keypoints if keypoints.is_dir() else None,
    )


def _dannce(root: Path, folders: Mapping[str, tuple[Path, ...]]) -> RecordingFiles:
    masks = masks_in(root / MASK_FOLDER, folders)
    tables = sorted(root.glob("*dannce.mat"))
    if len(tables) > 1:
        raise _ambiguous(root, tables)
    return RecordingFiles(
        layout="DANNCE (one folder for each camera, files named by their first frame)",
        cameras={
            name: CameraFiles(frames=paths, masks=masks.get(name, ()), named_by_first_frame=True)
            for name, paths in folders.items()
        },
        calibration=tables[0] if tables else None,
        sync=tables[0] if tables else None,
    )


def _plain(root: Path, layout: str, footage: Mapping[str, tuple[Path, ...]]) -> RecordingFiles:
    masks = masks_in(root / MASK_FOLDER, footage)
    cameras = {
        name: CameraFiles(frames=paths, masks=masks.get(name, ()), named_by_first_frame=len(paths) > 1)
        for name, paths in footage.items()
    }
    return RecordingFiles(layout=layout, cameras=cameras)


def _find_calibration(root: Path) -> Path | None:
    """The only calibration in the folder; a file beside the videos wins over a folder of calibration files."""
    files = sorted({path for pattern in CALIBRATION_PATTERNS for path in root.glob(pattern)})
    candidates = files or [root / name for name in CALIBRATION_FOLDERS if (root / name).is_dir()]
    if len(candidates) > 1:
        raise _ambiguous(root, candidates)
    return candidates[0] if candidates else None


def _ambiguous(root: Path, candidates: list[Path]) -> InputError:
    names = ", ".join(path.name for path in candidates)
    return InputError(f"{root}: expected one calibration, found {names}; pick one with --calibration")
