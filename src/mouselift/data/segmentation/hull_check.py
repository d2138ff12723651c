"""How well the masks of one instant fit one body: each against the silhouette of the visual hull."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry import Cameras
from mouselift.geometry.hull import carve, voxel_grid

CROP_PX = 192  # masks are compared in crops of this size
FIRST_VOXELS, SUBDIVISIONS = 24, 2
VOXELS = FIRST_VOXELS << SUBDIVISIONS  # along the edge in the end: 1.5 mm for a mouse with its tail
GAP_PX = 2 * int(np.ceil(CROP_PX / VOXELS / 2)) + 1  # bridges neighbouring voxels in a crop
CUBE_MARGIN = 1.15
MIN_WITNESSES = 2

Mask = Bool[np.ndarray, "_ _"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HullFit:
    """What the masks of one instant say about each other.

    Attributes:
        ious: Of each mask with the silhouette of the hull of all; 0 for an empty mask, NaN with fewer than two masks.
        allowed: Silhouette of the hull that the *other* masks carve, at the size of each picture.
    """

    ious: Float64[np.ndarray, "v"]
    allowed: tuple[Mask, ...]


def fit_hull(masks: Sequence[Mask], cameras: Sequence[Cameras], centre: Float[Tensor, "3"]) -> HullFit:
    """Carve the visual hulls of all masks, and of all but each.

    Args:
        masks: Of every camera; an empty one says nothing, nor does a camera about what lies beside its picture.
        cameras: (1,) each, in the world.
        centre: About where the animal is, world.
    """
    witnesses = [bool(mask.any()) for mask in masks]
    if sum(witnesses) < MIN_WITNESSES:
        return HullFit(ious=np.full(len(masks), np.nan), allowed=tuple(np.ones(mask.shape, bool) for mask in masks))
    radius = CUBE_MARGIN * _radius(masks, cameras, centre)
    crops = [_crop(camera, centre, radius) for camera in cameras]
    views = _joined([crop.camera for crop in crops])
    small = np.stack([crop.shrink(mask) for crop, mask in zip(crops, masks, strict=True)])
    pictured = np.stack([crop.shrink(np.ones_like(mask)) for crop, mask in zip(crops, masks, strict=True)]) > 0.5
    speaking = pictured & np.array(witnesses)[:, None, None]
    carving = torch.from_numpy(np.where(speaking, small, np.float32(1)))[:, None]
    points, inside = _carve_finely(carving, views, centre.float(), radius)
    spoken = _values(points, torch.from_numpy(speaking).float()[:, None], views) > 0.5  # (V, N)

    ious, allowed = [], []
    for view, (crop, mask) in enumerate(zip(crops, masks, strict=True)):
        hull = _silhouette(points[inside.all(0) & (spoken.sum(0) >= MIN_WITNESSES)], views[view]) & pictured[view]
        found = small[view] > 0.5
        ious.append((hull & found).sum() / max((hull | found).sum(), 1))
        others = torch.arange(len(masks)) != view
        enough = min(MIN_WITNESSES, sum(witnesses) - witnesses[view])
        confirmed = inside[others].all(0) & (spoken[others].sum(0) >= enough)
        allowed.append(crop.enlarge(_silhouette(points[confirmed], views[view]), mask.shape))
    return HullFit(ious=np.array(ious, np.float64), allowed=tuple(allowed))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Crop:
    """A square of a picture, `CROP_PX` wide after scaling, and the camera that sees it."""

    left: int
    top: int
    side: int
    camera: Cameras

    def shrink(self, mask: Mask) -> Float32[np.ndarray, "s s"]:
        height, width = mask.shape
        square = np.zeros((self.side, self.side), np.float32)
        rows = slice(max(self.top, 0), max(min(self.top + self.side, height), 0))
        columns = slice(max(self.left, 0), max(min(self.left + self.side, width), 0))
        seen = mask[rows, columns]
        y, x = rows.start - self.top, columns.start - self.left
        square[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
        smaller = self.side > CROP_PX
        return cv2.resize(square, (CROP_PX, CROP_PX), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)

    def enlarge(self, small: Bool[np.ndarray, "s s"], shape: tuple[int, ...]) -> Mask:
        scale = self.side / CROP_PX
        moved = np.array([[scale, 0, self.left + (scale - 1) / 2], [0, scale, self.top + (scale - 1) / 2]])
        full = cv2.warpAffine(small.view(np.uint8), moved, (shape[1], shape[0]), flags=cv2.INTER_NEAREST)
        return full.astype(bool)


def _radius(masks: Sequence[Mask], cameras: Sequence[Cameras], centre: Float[Tensor, "3"]) -> float:
    """Of a ball about the centre that holds the animal, as far as the widest mask reaches; mm."""
    reaches = [0.0]
    for mask, camera in zip(masks, cameras, strict=True):
        pixel = camera.project(centre[None])[0, 0].numpy()
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        if width and bool(np.isfinite(pixel).all()):
            corners = np.array([(x, y) for x in (left, left + width) for y in (top, top + height)])
            reach_px = float(np.linalg.norm(corners - pixel, axis=1).max())
            reaches.append(reach_px * float(camera.to_camera(centre[None])[0, 0, 2] / camera.K[0, 0, 0]))
    return max(reaches)


def _crop(camera: Cameras, centre: Float[Tensor, "3"], radius: float) -> _Crop:
    """Around the ball, as a pinhole shows it; real lenses show it smaller at the picture's edges."""
    x, y = camera.project(centre[None])[0, 0].nan_to_num(0.0).tolist()
    depth = float(camera.to_camera(centre[None])[0, 0, 2])
    half = max(8.0, float(camera.K[0, 0, 0]) * radius / max(depth, radius))
    left, top, side = round(x - half), round(y - half), round(2 * half)
    return _Crop(
        left=left,
        top=top,
        side=side,
        camera=camera.cropped(left, top, side, side).resized(CROP_PX, CROP_PX),
    )


def _joined(cameras: Sequence[Cameras]) -> Cameras:
    """One batch in float32, with zero distortion for those that have none."""
    none = torch.zeros(1, 5, dtype=torch.float64)
    return Cameras(
        K=torch.cat([camera.K for camera in cameras]),
        w2c=torch.cat([camera.w2c for camera in cameras]),
        width=CROP_PX,
        height=CROP_PX,
        distortion=torch.cat([none if camera.distortion is None else camera.distortion for camera in cameras]),
    ).to(torch.float32)


def _carve_finely(
    masks: Float[Tensor, "v 1 s s"], cameras: Cameras, centre: Float[Tensor, "3"], radius: float
) -> tuple[Float[Tensor, "n 3"], Bool[Tensor, "v n"]]:
    """Centres of voxels that all masks but one hold at least, and which masks do.

    Only voxels that may hold some of it are subdivided.
    """
    points = voxel_grid(FIRST_VOXELS, centre, radius)
    voxels = FIRST_VOXELS
    while True:
        # A voxel's half diagonal is 0.87 of its edge; near cameras see it a little larger.
        reach = 0 if voxels == VOXELS else int(np.ceil(CROP_PX / voxels))
        wide = F.max_pool2d(masks, 2 * reach + 1, stride=1, padding=reach)
        inside = _values(points, wide, cameras) > 0.5
        candidates = inside.sum(0) >= len(cameras) - 1
        points, inside = points[candidates], inside[:, candidates]
        if voxels == VOXELS:
            return points, inside
        voxels *= 2
        children = voxel_grid(2, points.new_zeros(3), 2 * radius / voxels)
        points = (points[:, None] + children).flatten(0, 1)


def _values(points: Float[Tensor, "n 3"], masks: Float[Tensor, "v 1 s s"], cameras: Cameras) -> Float[Tensor, "v n"]:
    """What each camera's mask says about each point; 0 outside the crop."""
    if not len(points):
        return points.new_zeros(len(cameras), 0)
    return torch.stack([carve(points, masks[v : v + 1], cameras[v : v + 1]) for v in range(len(cameras))])


def _silhouette(points: Float[Tensor, "n 3"], camera: Cameras) -> Bool[np.ndarray, "s s"]:
    """Where a camera of the crops sees the voxels about these points."""
    picture = np.zeros((CROP_PX, CROP_PX), np.uint8)
    if len(points):
        column, row = np.floor(np.nan_to_num(camera.project(points).numpy(), nan=-1)).astype(np.int64).T
        seen = (column >= 0) & (row >= 0) & (column < CROP_PX) & (row < CROP_PX)
        picture[row[seen], column[seen]] = 1
    # Of the many voxels along a ray some reach up to the edge: only the gaps between their centres need filling.
    return cv2.morphologyEx(picture, cv2.MORPH_CLOSE, np.ones((GAP_PX, GAP_PX), np.uint8)).astype(bool)
