"""How well masks of one instant fit one body: each against the silhouette of the visual hull of all."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry import Cameras
from mouselift.geometry.hull import carve, voxel_grid

CROP_PX = 192  # masks are compared in crops of this size
FIRST_VOXELS, SUBDIVISIONS = 24, 2  # 96 voxels along the edge in the end, 1.5 mm for a mouse with its tail
CUBE_MARGIN = 1.15


@dataclass(frozen=True, kw_only=True, eq=False)
class HullFit:
    """The visual hull of one instant and its silhouettes.

    Attributes:
        ious: Of each mask with the hull's silhouette; 0 for an empty mask, NaN if there is no hull.
        silhouettes: Of the hull, at the size of each picture.
    """

    ious: Float64[np.ndarray, "v"]
    silhouettes: tuple[Bool[np.ndarray, "_ _"], ...]


def fit_hull(
    masks: Sequence[Bool[np.ndarray, "_ _"]],
    cameras: Sequence[Cameras],
    centre: Float[Tensor, "3"],
) -> HullFit:
    """Carve the visual hull and compare its silhouettes with the masks.

    Args:
        masks: Of every camera; empty ones do not carve.
        cameras: (1,) each, in the world.
        centre: About where the animal is, world.
    """
    radius = CUBE_MARGIN * _radius(masks, cameras, centre)
    crops = [_crop(camera, centre, radius) for camera in cameras]
    small = torch.from_numpy(np.stack([crop.shrink(mask) for crop, mask in zip(crops, masks, strict=True)]))[:, None]
    views = _joined([crop.camera for crop in crops])
    carving = torch.tensor([bool(mask.any()) for mask in masks])
    points = _carve_finely(small[carving], views[carving], centre.float(), radius)
    silhouettes = _silhouettes(points, views, FIRST_VOXELS << SUBDIVISIONS)
    inside = small[:, 0].numpy() > 0.5
    union = (inside | silhouettes).sum((1, 2))
    with np.errstate(invalid="ignore"):
        ious = (inside & silhouettes).sum((1, 2)) / union if len(points) else np.full(len(masks), np.nan)
    full = tuple(
        crop.enlarge(silhouette, mask.shape) for crop, silhouette, mask in zip(crops, silhouettes, masks, strict=True)
    )
    return HullFit(ious=np.asarray(ious, np.float64), silhouettes=full)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Crop:
    """A square of a picture, `CROP_PX` wide after scaling, and the camera that sees it."""

    left: int
    top: int
    side: int
    camera: Cameras

    def shrink(self, mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "s s"]:
        height, width = mask.shape
        square = np.zeros((self.side, self.side), np.float32)
        rows = slice(max(self.top, 0), min(self.top + self.side, height))
        columns = slice(max(self.left, 0), min(self.left + self.side, width))
        if rows.start < rows.stop and columns.start < columns.stop:
            moved = np.s_[
                rows.start - self.top : rows.stop - self.top, columns.start - self.left : columns.stop - self.left
            ]
            square[moved] = mask[rows, columns]
        enlarging = self.side < CROP_PX
        return cv2.resize(square, (CROP_PX, CROP_PX), interpolation=cv2.INTER_LINEAR if enlarging else cv2.INTER_AREA)

    def enlarge(self, small: Bool[np.ndarray, "s s"], shape: tuple[int, ...]) -> Bool[np.ndarray, "h w"]:
        moved = np.float32([[self.side / CROP_PX, 0, self.left], [0, self.side / CROP_PX, self.top]])
        return cv2.warpAffine(small.astype(np.uint8), moved, shape[::-1], flags=cv2.INTER_NEAREST).astype(bool)


def _radius(masks: Sequence[np.ndarray], cameras: Sequence[Cameras], centre: Float[Tensor, "3"]) -> float:
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
    """Around the ball; a lens never shows it larger than a pinhole does by more than the margin."""
    x, y = camera.project(centre[None])[0, 0].nan_to_num(0.0).tolist()
    depth = float(camera.to_camera(centre[None])[0, 0, 2])
    half = max(8.0, float(camera.K[0, 0, 0]) * radius / max(depth, radius))
    left, top, side = round(x - half), round(y - half), round(2 * half)
    cropped = camera.cropped(left, top, side, side).resized(CROP_PX, CROP_PX)
    return _Crop(left=left, top=top, side=side, camera=cropped)


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
) -> Float[Tensor, "n 3"]:
    """Voxel centres inside the hull; only voxels that may hold some of it are subdivided."""
    points = voxel_grid(FIRST_VOXELS, centre, radius)
    voxels = FIRST_VOXELS
    for _ in range(SUBDIVISIONS):
        reach = int(np.ceil(CROP_PX / voxels))  # more than half a voxel's diagonal, in pixels of a crop
        wide = F.max_pool2d(masks, 2 * reach + 1, stride=1, padding=reach)
        points = points[carve(points, wide, cameras) > 0.5]
        voxels *= 2
        children = voxel_grid(2, points.new_zeros(3), 2 * radius / voxels)
        points = (points[:, None] + children).flatten(0, 1)
    return points[carve(points, masks, cameras) > 0.5]


def _silhouettes(points: Float[Tensor, "n 3"], cameras: Cameras, voxels: int) -> Bool[np.ndarray, "v s s"]:
    pictures = np.zeros((len(cameras), CROP_PX, CROP_PX), np.uint8)
    if len(points):
        for picture, pixels in zip(pictures, cameras.project(points).numpy(), strict=True):
            column, row = np.nan_to_num(pixels, nan=-1).astype(np.int64).T
            seen = (column >= 0) & (row >= 0) & (column < CROP_PX) & (row < CROP_PX)
            picture[row[seen], column[seen]] = 1
    width = round(CROP_PX / voxels)  # px between projected neighbours
    return np.stack([cv2.dilate(picture, np.ones((width + 1, width + 1), np.uint8)) for picture in pictures]) > 0
