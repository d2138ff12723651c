"""Compares ways to make masks, on recordings with known masks, with calibrated cameras, and with one camera.

    python benchmarks/segmentation.py --data ../shared/data --pictures overlays

Prints Markdown tables: time of one frame of one camera on one thread, after learning; IoU with the true masks where
they are known; IoU of each mask with the silhouette of the visual hull of all; share of the tracked points of body and
tail that a mask holds. `--pictures` writes what was drawn: look at it before you believe a figure, because masks that
miss the same things in all cameras agree well.
"""

import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import h5py
import numpy as np
import torch
import tyro

from mouselift.data.foreground import clean_mask, segment_foreground
from mouselift.data.recording import Instant, Recording, ViewSource, open_recording, read_instants
from mouselift.data.recording.footage import scan_footage
from mouselift.data.saliency import u2netp
from mouselift.data.segmentation import SAMPLES, learn_segmenter
from mouselift.data.segmentation.hull_check import fit_hull
from mouselift.data.segmentation.regions import box_of, grown
from mouselift.errors import InputError
from mouselift.geometry import Cameras

CHANGED = 15  # grey values: the plain background difference
POINT_TOLERANCE_PX = 3
TILE_PX = 360

Masks = list[np.ndarray]
Method = Callable[[int, Sequence[np.ndarray]], Masks]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A recording and what is known about it.

    Attributes:
        recording: With or without masks and calibration.
        points_mm: (T, N, 3) 3D keypoints, or None.
        tracks: (T, V, N, 2) tracked 2D points, NaN where missing, or None.
        tail: Which of them lie on the tail.
    """

    recording: Recording
    points_mm: np.ndarray | None = None
    tracks: np.ndarray | None = None
    tail: np.ndarray | None = None

    def cameras(self, frames: Sequence[np.ndarray]) -> tuple[Cameras, ...] | None:
        """The calibrated cameras, one by one."""
        rig = self.recording.calibration
        return None if rig is None else rig.each([(frame.shape[1], frame.shape[0]) for frame in frames])


def benchmark(
    data: Path,
    pictures: Path | None = None,
    instants: int = 10,
    samples: int = SAMPLES,
    recordings: tuple[str, ...] = ("markerless_mouse_1_sim", "sleap_anipose_mouse4cam", "dlc_openfield"),
) -> None:
    """Measure.

    Args:
        data: Folder with the recordings.
        pictures: Where to write overlays; nowhere when not given.
        instants: To measure on.
        samples: To learn from.
        recordings: Which ones.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    logging.getLogger("mouselift").setLevel(logging.ERROR)
    sys.stdout.write(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {samples} instants to learn from\n")
    for name in recordings:
        _compare(CASES[name](data / name), instants, samples, pictures)


def _simulated(folder: Path) -> Case:
    truth = np.load(folder / "keypoints3d_truth.npz")["keypoints_mm"]
    return Case(recording=open_recording(folder), points_mm=truth)


def _open_field(folder: Path) -> Case:
    view = ViewSource(name="top", frames=scan_footage([folder / "m3v1mp4.mp4"]))
    return Case(recording=Recording(root=folder, layout="one video", calibration=None, views=(view,)))


def _sleap(folder: Path) -> Case:
    recording = open_recording(folder, calibration=folder / "recalibrated.anipose.toml")
    tracks, nodes = [], []
    for name in recording.names:
        with h5py.File(next((folder / name).glob("*.analysis.h5"))) as file:
            tracks.append(np.transpose(np.asarray(file["tracks"])[0], (2, 1, 0)))  # (T, N, 2)
            nodes = [node.decode() for node in np.asarray(file["node_names"])]
    tail = np.array(["Tail" in node for node in nodes])
    points = np.load(folder / "recalibrated_points3d_mm.npy")
    return Case(recording=recording, points_mm=points, tracks=np.stack(tracks, axis=1) + 0.5, tail=tail)


CASES: dict[str, Callable[[Path], Case]] = {
    "markerless_mouse_1_sim": _simulated,
    "sleap_anipose_mouse4cam": _sleap,
    "dlc_openfield": _open_field,
}


def _compare(case: Case, instants: int, samples: int, pictures: Path | None) -> None:
    recording, count = case.recording, case.recording.num_instants
    learning = list(read_instants(recording, np.linspace(0, count - 1, samples).astype(int).tolist(), with_masks=False))
    testing = list(read_instants(recording, ((np.arange(instants) + 0.4) * count / instants).astype(int).tolist()))
    views = ", ".join(recording.names)
    sys.stdout.write(
        f"\n{recording.root.name}: {instants} instants of {views}\n\n| masks | time | figures |\n|---|---|---|\n"
    )
    for name, method in _methods(case, learning):
        start, cpu = time.perf_counter(), time.process_time()
        found = [method(instant.index, instant.frames) for instant in testing]
        frames = len(testing) * len(recording.views)
        wall, cpu = (time.perf_counter() - start) / frames, (time.process_time() - cpu) / frames
        sys.stdout.write(f"| {name} | {wall:.2f} s, {cpu:.2f} s CPU | {'; '.join(_scores(case, testing, found))} |\n")
        sys.stdout.flush()
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            path = pictures / f"{recording.root.name}_{name.replace(' ', '_')}.png"
            cv2.imwrite(str(path), _sheet(testing, found)[..., ::-1])
    if testing[0].masks is not None:
        truth = [[mask > 127 for mask in instant.masks or ()] for instant in testing]
        sys.stdout.write(f"| the truth | | {'; '.join(_scores(case, testing, truth))} |\n")


def _methods(case: Case, learning: list[Instant]) -> list[tuple[str, Method]]:
    frames = [instant.frames for instant in learning]
    medians = [np.median(np.stack(column), axis=0) for column in zip(*frames, strict=True)]
    network = _Remembering()  # all segmenters ask it about the same windows
    alone = learn_segmenter(frames, network=network)
    methods: list[tuple[str, Method]] = [
        ("background only", partial(_by_background, medians)),
        ("network only", lambda _, frames: [_by_network(frame) for frame in frames]),
        ("segmenter, every camera alone", lambda _, frames: [view.mask > 127 for view in alone(frames)]),
    ]
    cameras = case.cameras(frames[0])
    if cameras is not None:
        rig = learn_segmenter(frames, cameras=cameras, network=network)
        methods.append(("segmenter", lambda _, frames: [view.mask > 127 for view in rig(frames)]))
    if case.tracks is not None:
        tracks = case.tracks
        points = [tracks[instant.index] for instant in learning]
        guided = learn_segmenter(frames, cameras=cameras, points=points, network=network)
        methods.append(("segmenter with 2D tracks", lambda t, f: [view.mask > 127 for view in guided(f, tracks[t])]))
    return methods


class _Remembering:
    """U2-Net-p, each window looked at once."""

    def __init__(self) -> None:
        self._known: dict[bytes, torch.Tensor] = {}

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        key = hashlib.sha256(windows.numpy().tobytes()).digest()
        if key not in self._known:
            self._known[key] = u2netp()(windows).half()
        return self._known[key].float()


def _by_background(medians: list[np.ndarray], _: int, frames: Sequence[np.ndarray]) -> Masks:
    masks = []
    for frame, median in zip(frames, medians, strict=True):
        changed = np.abs(frame - median).max(-1) > CHANGED
        _, labels, stats, _ = cv2.connectedComponentsWithStats(changed.astype(np.uint8))
        masks.append(changed & (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()) if len(stats) > 1 else changed)
    return masks


def _by_network(frame: np.ndarray) -> np.ndarray:
    try:
        mask = clean_mask(segment_foreground(torch.from_numpy(frame.copy()).permute(2, 0, 1).float() / 255))
    except InputError:
        return np.zeros(frame.shape[:2], bool)
    return (mask[0] > 0.5).numpy()


def _scores(case: Case, testing: list[Instant], found: list[Masks]) -> list[str]:
    cells = []
    if testing[0].masks is not None:
        pairs = [zip(masks, instant.masks or (), strict=True) for masks, instant in zip(found, testing, strict=True)]
        ious = np.array([[_iou(mask, truth > 127) for mask, truth in pair] for pair in pairs])
        cells.append(f"truth {ious.mean():.3f}, lowest {ious.min():.3f}, by camera {_row(ious.mean(0))}")
    cameras = case.cameras(testing[0].frames)
    if cameras is not None and case.points_mm is not None:
        centres = [torch.from_numpy(np.nanmean(case.points_mm[instant.index], 0)).double() for instant in testing]
        fits = [fit_hull(masks, cameras, centre) for masks, centre in zip(found, centres, strict=True)]
        cells.append(f"hull {_row(np.nanmean([fit.ious for fit in fits], axis=0))}")
    if case.tracks is not None and case.tail is not None:
        held = np.array([_held(masks, case.tracks[i.index]) for masks, i in zip(found, testing, strict=True)])
        cells.append(
            f"points held {np.nanmean(held[..., ~case.tail]):.2f}, on the tail {np.nanmean(held[..., case.tail]):.2f}"
        )
    areas = np.array([[np.count_nonzero(mask) for mask in masks] for masks in found], np.float64)
    cells.append(f"area varies by {_row(areas.std(0) / np.maximum(areas.mean(0), 1))}, empty {(areas == 0).sum()}")
    return cells


def _held(masks: Masks, tracks: np.ndarray) -> np.ndarray:
    """Whether each point lies in its mask or close to it; NaN for a missing one."""
    held = np.full(tracks.shape[:2], np.nan)
    for view, (mask, points) in enumerate(zip(masks, tracks, strict=True)):
        near = grown(mask, POINT_TOLERANCE_PX)
        for number, (x, y) in enumerate(points):
            if 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0]:
                held[view, number] = near[int(y), int(x)]
    return held


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1))


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _sheet(testing: list[Instant], found: list[Masks]) -> np.ndarray:
    rows = [
        np.hstack([_tile(frame, mask) for frame, mask in zip(instant.frames, masks, strict=True)])
        for instant, masks in zip(testing, found, strict=True)
    ]
    if len(testing[0].frames) > 1:
        return np.vstack(rows)
    half = len(rows) // 2
    return np.vstack([np.hstack(rows[:half]), np.hstack(rows[half : 2 * half])])


def _tile(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The animal's surroundings, brightened, with the contour of its mask."""
    left, top, right, bottom = box_of(mask) if mask.any() else (0, 0, *mask.shape[::-1])
    half = max(right - left, bottom - top) // 2 + 30
    x, y = (left + right) // 2, (top + bottom) // 2
    picture = np.clip(frame * (200 / max(np.percentile(frame, 99), 1)), 0, 255).astype(np.uint8)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (255, 0, 0), 1)
    return cv2.resize(picture[max(y - half, 0) : y + half, max(x - half, 0) : x + half], (TILE_PX, TILE_PX))


if __name__ == "__main__":
    tyro.cli(benchmark)
