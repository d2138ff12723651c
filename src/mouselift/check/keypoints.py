"""2D keypoints against cameras: do the rays of one keypoint meet?"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mouselift.check.report import Charts, Findings, Table
from mouselift.data.calibration.dannce_labels import read_dannce_labels
from mouselift.data.calibration.matlab import load_mat
from mouselift.data.plan import Rig
from mouselift.data.recording import Recording
from mouselift.data.subject import triangulate
from mouselift.data.tracks import read_mammal
from mouselift.errors import InputError
from mouselift.export.charts import histogram
from mouselift.export.report_html import Cell
from mouselift.geometry import Cameras

MAX_ERROR_PX = 5.0
HISTOGRAM_TOPS_PX = (0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 20.0)
MAX_INSTANTS = 24  # that are triangulated, besides those that are drawn


@dataclass(frozen=True, kw_only=True, eq=False)
class Keypoints:
    """Keypoints that something or somebody found in the pictures.

    Attributes:
        pixels: Full-size pictures, views in the rig's order; NaN where unknown.
        points_mm: The same in the rig's world, NaN where unknown.
        instants: Of the recording.
        given: The 3D points were given, not triangulated from the pixels.
        source: Where they were read.
    """

    pixels: Float[Tensor, "v t k 2"]
    points_mm: Float[Tensor, "t k 3"]
    instants: Int64[np.ndarray, "t"]
    given: bool
    source: Path

    def at(self, instant: int) -> int | None:
        """Where an instant is in these arrays."""
        found = np.flatnonzero(self.instants == instant)
        return int(found[0]) if len(found) else None


def read_keypoints(recording: Recording, rig: Rig, instants: list[int]) -> Keypoints | None:
    """Keypoints of a MAMMAL or DANNCE recording; None where it has none.

    Args:
        recording: From `open_recording`.
        rig: Its cameras.
        instants: What must be among them, where every frame has keypoints; labelled instants are all taken.

    Raises:
        InputError: The files are damaged or do not belong to the recording.
    """
    if recording.keypoints is not None:
        return _of_mammal(recording, recording.keypoints, rig, instants)
    calibration = recording.calibration
    if calibration is not None and calibration.format == "dannce" and calibration.source.suffix == ".mat":
        return _of_dannce(recording, calibration.source, rig)
    return None


def reprojection_errors(keypoints: Keypoints, rig: Rig) -> Float[Tensor, "v n"]:
    """Distances between the pixels and the projected 3D points of all views, px; NaN where unknown."""
    points = keypoints.points_mm.flatten(0, 1)
    found = keypoints.pixels.flatten(1, 2)
    return torch.stack(
        [(camera[0].project(points) - seen).norm(dim=-1) for camera, seen in zip(rig.cameras, found, strict=True)]
    )


def add_keypoints(findings: Findings, keypoints: Keypoints, rig: Rig) -> None:
    """Errors of every camera, and a failure where they are too large to be a tracker's noise."""
    names = [name for camera in rig.cameras for name in camera.names]
    errors = reprojection_errors(keypoints, rig)
    counts = errors.isfinite().sum(-1).tolist()
    rms = (errors.square().nanmean(-1)).sqrt().tolist()
    medians = errors.nanmedian(-1).values.tolist()
    findings.figures["keypoints"] = {
        "source": keypoints.source.name,
        "instants": len(keypoints.instants),
        "points_given_in_3d": keypoints.given,
        "rms_px": dict(zip(names, rms, strict=True)),
        "median_px": dict(zip(names, medians, strict=True)),
        "count": dict(zip(names, counts, strict=True)),
    }
    listed = "  ".join(f"{name} {value:.2f}" for name, value in zip(names, rms, strict=True))
    findings.lines.append(f"keypoints    RMS error in px: {listed}")
    compared = "the given 3D points" if keypoints.given else "points triangulated from all cameras"
    findings.tables.append(
        Table(
            title="Keypoints against cameras",
            intro=f"Distance between the 2D keypoints of {keypoints.source.name} and {compared}, projected.",
            header=("camera", "RMS (px)", "median (px)", "keypoints"),
            rows=tuple(
                (name, _error_cell(rms[v]), _error_cell(medians[v]), f"{counts[v]}") for v, name in enumerate(names)
            ),
        )
    )
    largest = float(np.nan_to_num(errors.numpy(), nan=0.0).max())
    top = next(limit for limit in HISTOGRAM_TOPS_PX if limit >= min(largest, HISTOGRAM_TOPS_PX[-1]))
    findings.charts.append(
        Charts(
            title="Reprojection errors",
            intro=f"How often a keypoint is how far from {compared}, projected; a red bar holds all that is farther.",
            drawn=tuple(histogram(errors[v].numpy(), name, top=top) for v, name in enumerate(names)),
        )
    )
    bad = [f"{medians[v]:.1f} px in {name}" for v, name in enumerate(names) if medians[v] > MAX_ERROR_PX]
    if bad:
        findings.failures.append(
            f"{keypoints.source}: expected 2D keypoints within {MAX_ERROR_PX:g} px of {compared}, found a median "
            f"of {', '.join(bad)}; likely cause: another calibration, order or timing of the cameras"
        )
    elif max(rms) > MAX_ERROR_PX:
        worst = int(np.nanargmax(rms))
        findings.notes.append(
            f"some 2D keypoints are far off: their RMS error is {rms[worst]:.1f} px in camera {names[worst]}, the "
            f"median {medians[worst]:.1f} px"
        )


def _of_mammal(recording: Recording, folder: Path, rig: Rig, instants: list[int]) -> Keypoints:
    """Of instants spread over the recording, and of those that are asked for."""
    spread = np.linspace(0, recording.num_instants - 1, min(MAX_INSTANTS, recording.num_instants)).round().astype(int)
    chosen = np.unique(np.concatenate([spread, np.array(instants, np.int64)]))
    numbers = recording.frame_numbers(chosen.tolist())
    views = []
    for v in rig.order:
        view = recording.views[v]
        path = folder / f"result_view_{view.name}.pkl"
        views.append(read_mammal(path, view.frames.num_frames)[numbers[:, v]])
    if len({view.shape for view in views}) > 1:
        raise InputError(f"{folder}: expected as many keypoints in every view, found {[v.shape[1] for v in views]}")
    found = torch.from_numpy(np.stack(views))
    return Keypoints(pixels=found, points_mm=_triangulated(found, rig), instants=chosen, given=False, source=folder)


def _of_dannce(recording: Recording, path: Path, rig: Rig) -> Keypoints | None:
    """Labels by hand: each instant has frame numbers, which the recording's table may hold."""
    if "labelData" not in load_mat(path):  # a file with a calibration need not have labels
        return None
    labels = read_dannce_labels(path)
    order = [labels.names.index(recording.views[v].name) for v in rig.order]
    first = labels.frames[0].numpy()
    instants = first
    if recording.sync is not None:
        column = recording.sync[:, [view.name for view in recording.views].index(labels.names[0])]
        instants = np.searchsorted(column, first)
        known = instants < len(column)
        instants = np.where(known & (column[np.minimum(instants, len(column) - 1)] == first), instants, -1)
    return Keypoints(
        pixels=labels.pixels[order],
        points_mm=rig.z_up_from_world.apply(labels.points_mm),
        instants=instants,
        given=True,
        source=path,
    )


def _triangulated(pixels: Float[Tensor, "v t k 2"], rig: Rig) -> Float[Tensor, "t k 3"]:
    """Each keypoint from all views that know it."""
    cameras = unsized(rig)
    flat = pixels.flatten(1, 2).transpose(0, 1)
    points = torch.stack([triangulate(one, cameras) for one in flat])
    return points.reshape(*pixels.shape[1:3], 3)


def unsized(rig: Rig) -> Cameras:
    """All cameras as one batch, lenses included; lines of sight do not depend on the pictures' sizes."""
    none = torch.zeros(1, 5, dtype=torch.float64)
    bare = [replace(camera, width=1, height=1) for camera in rig.cameras]
    if any(camera.distortion is not None for camera in bare):
        bare = [replace(camera, distortion=none if camera.distortion is None else camera.distortion) for camera in bare]
    return Cameras.cat(bare)


def _error_cell(value: float) -> Cell:
    tone = "quiet" if value != value else "bad" if value > MAX_ERROR_PX else "good"
    return Cell("none" if value != value else f"{value:.2f}", tone)
