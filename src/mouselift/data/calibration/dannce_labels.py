"""What else DANNCE's files hold: hand labels, the table of synchronous frames, and the track of the animal's centre."""

from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mouselift.data.calibration.dannce import camera_names
from mouselift.data.calibration.matlab import load_mat, structs
from mouselift.data.calibration.parsing import PIXEL_SHIFTS, numbers
from mouselift.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class DannceLabels:
    """Keypoints that were labelled by hand.

    Attributes:
        names: The cameras.
        points_mm: 3D keypoints, world, mm; NaN where unlabelled.
        pixels: The same in each camera's picture, in our convention (first centre (0.5, 0.5)); NaN where unlabelled.
        frames: Frame numbers of each camera, as the file counts them.
        sample_ids: DANNCE's number of each instant.
    """

    names: tuple[str, ...]
    points_mm: Float64[Tensor, "t k 3"]
    pixels: Float64[Tensor, "v t k 2"]
    frames: Int64[Tensor, "v t"]
    sample_ids: Int64[Tensor, " t"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DannceSync:
    """Which frame of each camera shows an instant; they need not be equal.

    Attributes:
        names: The cameras.
        frames: Frame numbers, as the file counts them.
        sample_ids: DANNCE's number of each instant, ascending.
    """

    names: tuple[str, ...]
    frames: Int64[Tensor, "t v"]
    sample_ids: Int64[Tensor, " t"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DannceTrack:
    """The animal's centre over time.

    Attributes:
        points_mm: World, mm; NaN where unknown.
        sample_ids: DANNCE's number of each instant.
    """

    points_mm: Float64[Tensor, "t 3"]
    sample_ids: Int64[Tensor, " t"]


def read_dannce_labels(path: Path, *, mm_per_unit: float = 1.0) -> DannceLabels:
    """Read the labels (`labelData`) of `label3d_dannce.mat`.

    Raises:
        InputError: There are none, or the cameras' tables differ in size.
    """
    names, views = _tables(path, "labelData")
    points = [
        _points(view, "data_3d", 3, f"{path}: labels of {name!r}") for name, view in zip(names, views, strict=True)
    ]
    pixels = [
        _points(view, "data_2d", 2, f"{path}: labels of {name!r}") for name, view in zip(names, views, strict=True)
    ]
    frames = [
        _integers(view, "data_frame", f"{path}: labels of {name!r}") for name, view in zip(names, views, strict=True)
    ]
    shape = points[0].shape[:2]
    if any(p.shape[:2] != shape for p in (*points, *pixels)) or any(len(f) != shape[0] for f in frames):
        raise InputError(f"{path}: expected labels of {shape[0]} instants and {shape[1]} keypoints from every camera")
    return DannceLabels(
        names=names,
        points_mm=mm_per_unit * torch.from_numpy(points[0]),
        pixels=torch.from_numpy(np.stack(pixels)) + PIXEL_SHIFTS["matlab"],
        frames=torch.from_numpy(np.stack(frames)),
        sample_ids=torch.from_numpy(_integers(views[0], "data_sampleID", f"{path}: labels of {names[0]!r}")),
    )


def read_dannce_sync(path: Path) -> DannceSync:
    """Read the table of synchronous frames (`sync`) of `label3d_dannce.mat`.

    Returns:
        The instants that every camera knows.

    Raises:
        InputError: There is no table, or no instant that all cameras share.
    """
    names, views = _tables(path, "sync")
    where = [f"{path}: sync of {name!r}" for name in names]
    frames = [_integers(view, "data_frame", w) for view, w in zip(views, where, strict=True)]
    ids = [_integers(view, "data_sampleID", w) for view, w in zip(views, where, strict=True)]
    for numbers_of, ids_of, w in zip(frames, ids, where, strict=True):
        if len(numbers_of) != len(ids_of) or len(np.unique(ids_of)) != len(ids_of):
            raise InputError(f"{w}: expected one frame for each sampleID, found {len(numbers_of)} for {len(ids_of)}")
    shared = reduce(np.intersect1d, ids)
    if not len(shared):
        raise InputError(f"{path}: expected instants that all cameras share, found no common sampleID in sync")
    order = [np.argsort(ids_of) for ids_of in ids]
    columns = [f[o][np.searchsorted(i[o], shared)] for f, i, o in zip(frames, ids, order, strict=True)]
    return DannceSync(
        names=names, frames=torch.from_numpy(np.stack(columns, axis=1)), sample_ids=torch.from_numpy(shared)
    )


def read_dannce_track(path: Path, *, mm_per_unit: float = 1.0) -> DannceTrack:
    """Read the animal's centre from `com3d.mat`, or from `com` in `label3d_dannce.mat`.

    Raises:
        InputError: There is none, or its lengths differ.
    """
    content = load_mat(path)
    table = content["com"] if isinstance(content.get("com"), dict) else content
    key = next((key for key in ("com3d", "com") if key in table), None)
    if key is None:
        raise InputError(f"{path}: expected a track com or com3d, found {', '.join(content) or 'nothing'}")
    points, ids = _points(table, key, 3, f"{path}: track")[:, 0], _integers(table, "sampleID", f"{path}: track")
    if len(points) != len(ids):
        raise InputError(f"{path}: expected a sampleID for each of {len(points)} points, found {len(ids)}")
    return DannceTrack(points_mm=mm_per_unit * torch.from_numpy(points), sample_ids=torch.from_numpy(ids))


def _tables(path: Path, key: str) -> tuple[tuple[str, ...], list[Any]]:
    """The cameras' names and their tables."""
    content = load_mat(path)
    if key not in content:
        raise InputError(f"{path}: expected DANNCE's variable {key}, found {', '.join(content) or 'nothing'}")
    tables = structs(content[key], f"{path}: {key}")
    return tuple(camera_names(content, len(tables), path)), tables


def _points(table: Any, key: str, dimensions: int, where: str) -> np.ndarray:
    """(T, K, dimensions) from rows x1 y1 z1 x2 ...; all-zero points, DANNCE's other word for unlabelled, become NaN."""
    if key not in table:
        raise InputError(f"{where}: expected {key}, found {', '.join(table) or 'nothing'}")
    values = np.atleast_2d(numbers(table[key], f"{where}, {key}"))
    if values.ndim != 2 or values.shape[1] % dimensions:
        raise InputError(f"{where}: expected {key} with {dimensions} columns for each point, found {values.shape}")
    points = values.reshape(len(values), -1, dimensions)
    unlabelled = np.isnan(points).any(-1) | (points == 0).all(-1)
    return np.where(unlabelled[..., None], np.nan, points)


def _integers(table: Any, key: str, where: str) -> np.ndarray:
    if key not in table:
        raise InputError(f"{where}: expected {key}, found {', '.join(table) or 'nothing'}")
    values = numbers(table[key], f"{where}, {key}").ravel()
    if not np.all(np.mod(values, 1) == 0):
        raise InputError(f"{where}: expected whole numbers in {key}")
    return values.astype(np.int64)
