"""Masks for a recording that comes without any, in a folder that is a recording of its own."""

import csv
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from tqdm import tqdm

from mouselift.atomic import atomic_path
from mouselift.data.recording import Instant, Recording, open_recording, read_instants
from mouselift.data.recording.check import require_sound
from mouselift.data.segmentation import SAMPLES, SegmentedView, learn_segmenter
from mouselift.data.tracks import Tracks
from mouselift.errors import InputError
from mouselift.export.overlay import draw_outline
from mouselift.export.picture import contact_sheet

logger = logging.getLogger(__name__)
REPORT_FILE, OVERVIEW_FILE, RECORDING_FILE, SYNC_FILE = "segment.csv", "overview.png", "recording.yaml", "sync.csv"
OUTLINE = (240, 60, 160)
SHOWN_INSTANTS, SHOWN_WIDTH_PX = 6, 480


def segment(
    recording: Recording, out: Path, *, every: int = 1, tracks: Tracks | None = None, progress: bool = True
) -> Recording:
    """Find the animal in every camera and write masks.

    `out` gets `masks/CAMERA/000123.png` for every frame, `recording.yaml` that joins them with the original videos,
    `segment.csv` with what speaks against each mask, and `overview.png`. Instants that are there already are left as
    they are, so a run that was cut off goes on where it stopped.

    Args:
        recording: Without masks; a calibration lets the cameras correct each other.
        out: The folder; made when missing.
        every: Segment every n-th instant; the others get empty masks, so prepare with the same `every`.
        tracks: Points on the animal in some or all frames, as `find_tracks` gives them: they spare the search for it.
        progress: Show a bar.

    Returns:
        The recording with its masks.

    Raises:
        InputError: The recording has masks or does not fit together, the animal does not stand out, or `out` cannot be
            written.
    """
    if recording.has_masks:
        raise InputError(f"{recording.root}: expected a recording without masks, found masks in every view")
    if every < 1:
        raise InputError(f"expected every >= 1, found {every}")
    require_sound(recording)
    wanted = list(range(0, recording.num_instants, every))
    learn_from = [wanted[k] for k in np.unique(np.linspace(0, len(wanted) - 1, SAMPLES).round().astype(int))]
    calibration = recording.calibration
    cameras = None if calibration is None else calibration.each([view.frames.size for view in recording.views])
    samples = [instant.frames for instant in read_instants(recording, learn_from)]
    points = None if tracks is None else [_points(recording, tracks, i) for i in learn_from]
    segmenter = learn_segmenter(samples, cameras=cameras, names=recording.names, points=points)
    files = {i: _mask_files(recording, out, i) for i in wanted}
    missing = [i for i in wanted if not all(file.exists() for file in files[i])]
    shown = {wanted[k] for k in np.linspace(0, len(wanted) - 1, SHOWN_INSTANTS).round().astype(int)}
    bar = tqdm(
        total=len(wanted), initial=len(wanted) - len(missing), desc="segment", unit="instant", disable=not progress
    )
    for instant in read_instants(recording, missing):
        views = segmenter(instant.frames, None if tracks is None else _points(recording, tracks, instant.index))
        for file, view in zip(files[instant.index], views, strict=True):
            _write_mask(file, view.mask)
        _append_report(out / REPORT_FILE, instant.index, recording.names, views)
        bar.update()
    bar.close()
    _fill_with_empty_masks(recording, out)
    _write_recording(recording, out)
    masked = open_recording(out / RECORDING_FILE)
    _write_overview(read_instants(masked, sorted(shown)), recording.names, out / OVERVIEW_FILE)
    return masked


def _points(recording: Recording, tracks: Tracks, instant: int) -> list[np.ndarray]:
    return tracks.at(recording.frame_numbers([instant])[0].tolist())


def _mask_file(out: Path, name: str, frame_number: int) -> Path:
    return out / "masks" / name / f"{frame_number:06d}.png"


def _mask_files(recording: Recording, out: Path, index: int) -> list[Path]:
    numbers = recording.frame_numbers([index])[0].tolist()
    return [_mask_file(out, name, number) for name, number in zip(recording.names, numbers, strict=True)]


def _write_mask(path: Path, mask: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: expected a place that can be written to, found: {error.strerror}") from error
    with atomic_path(path) as partial:
        partial.write_bytes(cv2.imencode(".png", mask)[1].tobytes())


def _append_report(path: Path, index: int, names: Sequence[str], views: Sequence[SegmentedView]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["instant", "camera", "area_ratio", "agreement", "problem"])
        for name, view in zip(names, views, strict=True):
            writer.writerow([index, name, f"{view.area_ratio:.3f}", f"{view.agreement:.3f}", view.problem])


def _fill_with_empty_masks(recording: Recording, out: Path) -> None:
    """Every frame of a video has a mask file; those that were not wanted hold nothing."""
    for view in recording.views:
        width, height = view.frames.size
        nothing = np.zeros((height, width), np.uint8)
        for index in range(view.frames.num_frames):
            path = _mask_file(out, view.name, index)
            if not path.exists():
                _write_mask(path, nothing)


def _write_recording(recording: Recording, out: Path) -> None:
    def beside(path: Path) -> str:
        return os.path.relpath(path.resolve(), out.resolve())

    content: dict[str, object] = {
        "cameras": {
            view.name: {"video": [beside(part.path) for part in view.frames.parts], "mask": f"masks/{view.name}"}
            for view in recording.views
        }
    }
    if recording.calibration is not None:
        content["calibration"] = beside(recording.calibration.source)
    if recording.fps:
        content["fps"] = recording.fps
    if recording.sync is not None:
        content["sync"] = SYNC_FILE
        np.savetxt(out / SYNC_FILE, recording.sync, "%d", ",", header=",".join(recording.names), comments="")
    with atomic_path(out / RECORDING_FILE) as partial:
        partial.write_text(yaml.safe_dump(content, sort_keys=False))


def _write_overview(instants: Iterator[Instant], names: Sequence[str], path: Path) -> None:
    rows = []
    for instant in instants:
        assert instant.masks is not None  # they were written just now
        row = []
        for name, frame, mask in zip(names, instant.frames, instant.masks, strict=True):
            drawn = frame.copy()
            draw_outline(drawn, mask / 255.0, OUTLINE, 3)
            height = round(SHOWN_WIDTH_PX * frame.shape[0] / frame.shape[1])
            small = cv2.resize(drawn, (SHOWN_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
            row.append((f"{name}, instant {instant.index}", torch.from_numpy(small).permute(2, 0, 1).float() / 255))
        rows.append(row)
    contact_sheet(rows, path)
