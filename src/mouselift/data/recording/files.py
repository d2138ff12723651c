"""Which file belongs to which camera: what layouts find, before anything is opened."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mouselift.data.recording.pictures import PICTURE_SUFFIXES
from mouselift.errors import InputError

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv"})


@dataclass(frozen=True, kw_only=True)
class CameraFiles:
    """The files of one camera: videos in order of time or one picture folder, and the same for its masks."""

    frames: tuple[Path, ...]
    masks: tuple[Path, ...] = ()
    named_by_first_frame: bool = False


@dataclass(frozen=True, kw_only=True)
class RecordingFiles:
    """The files of a recording.

    Attributes:
        layout: In words.
        cameras: By the names that folders and files have.
        calibration: Where the cameras are described.
        sync: A table of frame numbers.
        keypoints: A folder of 2D keypoints.
        fps: As the user says; None to take it from the videos.
        alpha: Whether transparency is the mask; None to see whether there is any.
        mm_per_unit: Of the calibration, as the user says.
        subset: Whether cameras of the calibration may be left out.
    """

    layout: str
    cameras: Mapping[str, CameraFiles] = field(default_factory=dict)
    calibration: Path | None = None
    sync: Path | None = None
    keypoints: Path | None = None
    fps: float | None = None
    alpha: bool | None = None
    mm_per_unit: float | None = None
    subset: bool = False


def natural_key(text: str) -> list[tuple[bool, int, str]]:
    """Sorts "cam10" after "cam9"."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", text)]


def videos_in(folder: Path) -> list[Path]:
    """Video files right in a folder, hidden ones left out."""
    paths = (path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    return sorted((path for path in paths if not path.name.startswith(".")), key=lambda path: natural_key(path.name))


def folders_in(folder: Path) -> list[Path]:
    """Folders right in a folder, hidden ones left out."""
    paths = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(paths, key=lambda path: natural_key(path.name))


def footage_in(folder: Path) -> tuple[Path, ...]:
    """The footage of one camera in its folder: one video, chunks named by their first frame, pictures, or nothing.

    Raises:
        InputError: Several videos that are not chunks.
    """
    videos = videos_in(folder)
    if len(videos) > 1 and not all(is_chunk(video) for video in videos):
        listed = ", ".join(video.name for video in videos)
        raise InputError(f"{folder}: expected one video, or several named by their first frame, found {listed}")
    if videos:
        return tuple(videos)
    pictures = any(path.suffix.lower() in PICTURE_SUFFIXES for path in folder.iterdir())
    return (folder,) if pictures else ()


def is_chunk(video: Path) -> bool:
    """Whether the file name is a bare number, as in 3000.mp4."""
    return video.stem.isdecimal()


def masks_in(folder: Path, names: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    """The masks of each camera: FOLDER/NAME.mp4 or the footage in FOLDER/NAME; nothing where there is no folder.

    Raises:
        InputError: The folder has masks for some cameras only.
    """
    if not folder.is_dir():
        return {}
    videos = {path.stem: (path,) for path in videos_in(folder)}
    found = {name: videos.get(name) or _footage_or_none(folder / name) for name in names}
    missing = [name for name, paths in found.items() if not paths]
    if missing:
        raise InputError(f"{folder}: expected masks of every camera, found none of {', '.join(missing)}")
    return found


def _footage_or_none(folder: Path) -> tuple[Path, ...]:
    return footage_in(folder) if folder.is_dir() else ()


def match_names(calibrated: Sequence[str], found: Sequence[str], where: Path) -> dict[str, str]:
    """Pair each camera of a calibration with a folder or file.

    Names are compared as they are, then without case, then by the words in them ("mouse_back" is "back"), then by
    their numbers ("Camera1" is "cam1"); the first comparison that pairs all of them, one to one, holds.

    Args:
        calibrated: Names of the cameras in the calibration.
        found: Names of folders or files.
        where: For the message.

    Returns:
        Found name by calibrated name, in the calibration's order.

    Raises:
        InputError: They do not match; both lists are named.
    """
    for same in (str.__eq__, _same_case_folded, _is_a_word_of, _same_number):
        pairs = _one_to_one(calibrated, found, same)
        if pairs is not None:
            return pairs
    raise InputError(
        f"{where}: expected footage of the calibrated cameras {', '.join(calibrated)}, found {', '.join(found)}"
    )


def _one_to_one(
    calibrated: Sequence[str], found: Sequence[str], same: Callable[[str, str], bool]
) -> dict[str, str] | None:
    candidates = {name: [other for other in found if same(name, other)] for name in calibrated}
    if any(len(others) != 1 for others in candidates.values()):
        return None
    pairs = {name: others[0] for name, others in candidates.items()}
    return pairs if sorted(pairs.values()) == sorted(found) else None


def _same_case_folded(name: str, other: str) -> bool:
    return name.casefold() == other.casefold()


def _is_a_word_of(name: str, other: str) -> bool:
    return name.casefold() in re.split(r"[^0-9a-z]+", other.casefold())


def _same_number(name: str, other: str) -> bool:
    return bool(re.findall(r"\d+", name)) and [*map(int, re.findall(r"\d+", name))] == [
        *map(int, re.findall(r"\d+", other))
    ]
