"""`recording.yaml`: a recording whose files lie as no layout knows."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mouselift.config import from_dict, load_config
from mouselift.data.recording.files import CameraFiles, RecordingFiles, footage_in, is_chunk
from mouselift.errors import InputError

RECORDING_FILE = "recording.yaml"


@dataclass(frozen=True, kw_only=True)
class CameraEntry:
    """The files of one camera, relative to the YAML file.

    Attributes:
        video: A video file, several in order of time, or a folder with one of these or with pictures.
        mask: The same for masks.
    """

    video: str | list[str]
    mask: str | list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class RecordingEntry:
    """The keys of the file.

    Attributes:
        cameras: The keys of a `CameraEntry`, by the calibration's names; its cameras that are not listed are left out.
        calibration: File or folder, relative to the YAML file.
        mm_per_unit: Of the calibration.
        fps: Frames a second, where the videos do not know.
        masks: "files" are those under `mask`, "alpha" the pictures' transparency; "auto" takes what is there.
        sync: A table of frame numbers, .csv or .mat.
    """

    cameras: dict[str | int, dict[str, Any]] = field(default_factory=dict)  # YAML reads the name 0 as a number
    calibration: str | None = None
    mm_per_unit: float | None = None
    fps: float | None = None
    masks: Literal["auto", "files", "alpha", "none"] = "auto"
    sync: str | None = None


def read_recording_file(path: Path) -> RecordingFiles:
    """Read `recording.yaml`.

    Raises:
        InputError: Not such a file, an unknown key, a file that it names is missing, or masks that it promises are.
    """
    entry = load_config(RecordingEntry, path)
    if not entry.cameras:
        raise InputError(f"{path}: expected `cameras:` with at least one, found none")
    if entry.fps is not None and not entry.fps > 0:
        raise InputError(f"{path}: fps: expected a positive number, found {entry.fps}")
    return RecordingFiles(
        layout="as the file says",
        cameras={str(name): _camera(path, f"{name}", values, entry.masks) for name, values in entry.cameras.items()},
        calibration=_existing(path, "calibration", entry.calibration),
        sync=_existing(path, "sync", entry.sync),
        fps=entry.fps,
        alpha={"auto": None, "alpha": True}.get(entry.masks, False),
        mm_per_unit=entry.mm_per_unit,
        subset=True,
    )


def _camera(path: Path, name: str, values: dict[str, Any], masks: str) -> CameraFiles:
    camera = from_dict(CameraEntry, values, f"{path}: cameras.{name}")
    frames = _footage(path, f"cameras.{name}.video", camera.video)
    if masks == "files" and camera.mask is None:
        raise InputError(f"{path}: cameras.{name}.mask: expected masks in files, found no such key")
    wanted = camera.mask is not None and masks in ("auto", "files")
    in_folder = isinstance(camera.video, str) and frames != (path.parent / camera.video,)
    return CameraFiles(
        frames=frames,
        masks=_footage(path, f"cameras.{name}.mask", camera.mask) if camera.mask is not None and wanted else (),
        named_by_first_frame=in_folder and len(frames) > 1 and all(is_chunk(frame) for frame in frames),
    )


def _footage(path: Path, key: str, names: str | list[str]) -> tuple[Path, ...]:
    if isinstance(names, list):
        if not names:
            raise InputError(f"{path}: {key}: expected at least one file, found an empty list")
        return tuple(_file(path, key, name) for name in names)
    place = _file(path, key, names)
    if not place.is_dir():
        return (place,)
    footage = footage_in(place)
    if not footage:
        raise InputError(f"{path}: {key}: expected videos or pictures in {place}, found none")
    return footage


def _existing(path: Path, key: str, name: str | None) -> Path | None:
    return None if name is None else _file(path, key, name)


def _file(path: Path, key: str, name: str) -> Path:
    place = path.parent / name
    if not place.exists():
        raise InputError(f"{path}: {key}: expected a file, found nothing at {place}")
    return place
