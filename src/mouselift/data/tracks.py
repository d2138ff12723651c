"""2D points that a tracker or a person found: SLEAP, DeepLabCut, MAMMAL's keypoints, DANNCE's labels."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from mouselift.data.calibration.dannce_labels import read_dannce_labels
from mouselift.data.calibration.matlab import load_mat
from mouselift.data.calibration.parsing import PIXEL_SHIFTS
from mouselift.data.calibration.safe_pickle import load_pickle
from mouselift.data.recording import Recording, ViewSource
from mouselift.errors import InputError

MIN_CONFIDENCE = 0.5
SLEAP_SUFFIX, DEEPLABCUT_MARK = ".analysis.h5", "DLC"

Points = Float64[np.ndarray, "n k 2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracks:
    """2D points of every view and frame.

    Attributes:
        points: Of each view: pixels of each frame in our convention, NaN where unknown; None for views without any.
        sources: The files they were read from.
    """

    points: tuple[Points | None, ...]
    sources: tuple[Path, ...]

    def at(self, frame_numbers: Sequence[int]) -> list[Float64[np.ndarray, "_ 2"]]:
        """The points of every view in its frame with that number; no rows for views without any."""
        return [
            np.zeros((0, 2)) if table is None else table[number]
            for table, number in zip(self.points, frame_numbers, strict=True)
        ]


def find_tracks(recording: Recording) -> Tracks | None:
    """Tracks that lie where programs put them: beside the videos, or in the layout's own place.

    Beside VIDEO.mp4: `VIDEO*.analysis.h5` of SLEAP or `VIDEO*DLC*.csv` of DeepLabCut.

    Raises:
        InputError: A file is damaged, of another length than its video, or shows several animals; several files of one
            video.
    """
    tables: list[Points | None]
    if recording.keypoints is not None:
        folder = recording.keypoints
        paths = [folder / f"result_view_{view.name}.pkl" for view in recording.views]
        tables = [read_mammal(path, view.frames.num_frames) for path, view in zip(paths, recording.views, strict=True)]
        return Tracks(points=tuple(tables), sources=tuple(paths))
    calibration = recording.calibration
    if calibration is not None and calibration.format == "dannce" and "labelData" in load_mat(calibration.source):
        tables = _of_dannce(recording, calibration.source)
        return Tracks(points=tuple(tables), sources=(calibration.source,))
    found = [_beside(view) for view in recording.views]
    if not any(path for paths in found for path in paths):
        return None
    tables = [_of_view(view, paths) for view, paths in zip(recording.views, found, strict=True)]
    return Tracks(points=tuple(tables), sources=tuple(path for paths in found for path in paths if path))


def read_sleap(path: Path, num_frames: int) -> Points:
    """An analysis file of SLEAP, needs h5py.

    Raises:
        InputError: Not such a file, several animals, or another number of frames.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{path}: reading SLEAP's files needs h5py: pip install 'mouselift[tracks]' (or leave tracks out: "
            "--no-tracks)"
        ) from None
    try:
        with h5py.File(path) as file:
            tracks = np.asarray(file["tracks"], np.float64)  # pyright: ignore[reportArgumentType]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: expected an analysis file of SLEAP, found: {error}") from None
    if tracks.ndim != 4 or tracks.shape[1] != 2:
        raise InputError(f"{path}: expected tracks (animals, 2, points, frames), found {tracks.shape}")
    if len(tracks) != 1:
        raise InputError(f"{path}: expected one animal, found {len(tracks)} tracks")
    return _whole(path, tracks[0].transpose(2, 1, 0), num_frames)


def read_deeplabcut(path: Path, num_frames: int) -> Points:
    """The table of a DeepLabCut analysis: rows `coords` x, y, likelihood, then one for each frame.

    Raises:
        InputError: Not such a table, several animals, or another number of frames.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        kinds = next(row for row in rows[:4] if row and row[0] == "coords")[1:]
        values = np.array(
            [[float(cell or "nan") for cell in row[1:]] for row in rows[rows.index(["coords", *kinds]) + 1 :]]
        )
    except (OSError, StopIteration, ValueError) as error:
        raise InputError(f"{path}: expected a table of DeepLabCut, found: {error or 'no row `coords`'}") from None
    if any(row and row[0] == "individuals" and len(set(row[1:])) > 1 for row in rows[:4]):
        raise InputError(f"{path}: expected one animal, found {len(set(rows[1][1:]))}")
    if kinds != ["x", "y", "likelihood"] * (len(kinds) // 3) or values.ndim != 2:
        raise InputError(f"{path}: expected columns x, y, likelihood, found {', '.join(kinds[:4])}, ...")
    points = values.reshape(len(values), -1, 3)
    return _whole(path, np.where(points[..., 2:] > MIN_CONFIDENCE, points[..., :2], np.nan), num_frames)


def read_mammal(path: Path, num_frames: int) -> Points:
    """`result_view_{k}.pkl`: (T, K, 3) of x, y and confidence, a row for each frame.

    Raises:
        InputError: Not such a file, or another number of frames.
    """
    table = np.asarray(load_pickle(path))
    if table.ndim != 3 or table.shape[-1] != 3 or table.dtype.kind != "f":
        raise InputError(f"{path}: expected keypoints (T, K, 3), found {table.dtype} {table.shape}")
    values = table.astype(np.float64)
    return _whole(path, np.where(values[..., 2:] > MIN_CONFIDENCE, values[..., :2], np.nan), num_frames)


def _whole(path: Path, points: Points, num_frames: int) -> Points:
    if len(points) != num_frames:
        raise InputError(f"{path}: expected points of {num_frames} frames, found {len(points)}")
    return points + PIXEL_SHIFTS["opencv"]  # these programs put the centre of the first pixel at 0


def _of_dannce(recording: Recording, path: Path) -> list[Points | None]:
    """Labels by hand, which few frames have."""
    labels = read_dannce_labels(path)
    tables: list[Points | None] = []
    for view in recording.views:
        pixels = labels.pixels[labels.names.index(view.name)].numpy()
        frames = labels.frames[labels.names.index(view.name)].numpy()
        table = np.full((view.frames.num_frames, *pixels.shape[1:]), np.nan)
        known = (frames >= 0) & (frames < len(table))
        table[frames[known]] = pixels[known]
        tables.append(table)
    return tables


def _beside(view: ViewSource) -> list[Path | None]:
    """The file beside every part of a view's footage."""
    found: list[Path | None] = []
    for part in view.frames.parts:
        folder, stem = part.path.parent, part.path.stem
        files = [*folder.glob(f"*{SLEAP_SUFFIX}"), *folder.glob(f"*{DEEPLABCUT_MARK}*.csv")]
        own = sorted(file for file in files if part in view.frames.videos and file.name.startswith(stem))
        if len(own) > 1:
            listed = ", ".join(file.name for file in own)
            raise InputError(f"{folder}: expected one file of tracks for {part.path.name}, found {listed}")
        found.append(own[0] if own else None)
    return found


def _of_view(view: ViewSource, paths: Sequence[Path | None]) -> Points | None:
    """The points of all parts one after the other, NaN for parts without any."""
    tables = [
        None
        if path is None
        else (read_sleap if path.name.endswith(SLEAP_SUFFIX) else read_deeplabcut)(path, part.num_frames)
        for path, part in zip(paths, view.frames.parts, strict=True)
    ]
    most = max((table.shape[1] for table in tables if table is not None), default=0)
    if not most:
        return None
    rows = []
    for table, part in zip(tables, view.frames.parts, strict=True):
        whole = np.full((part.num_frames, most, 2), np.nan)
        if table is not None:
            whole[:, : table.shape[1]] = table
        rows.append(whole)
    return np.concatenate(rows)
