"""Where the animal is in 3D at one instant, from its silhouettes alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mouselift.geometry import Cameras
from mouselift.geometry.hull import carve_inside, voxel_grid

FOREGROUND = 0.5
HULL_VOXELS = 24  # along each edge of the cube around the animal: about 5 mm for a mouse with its tail
MIN_VIEWS = 2
CUBE_MARGIN = 1.25


@dataclass(frozen=True, kw_only=True, eq=False)
class Silhouettes:
    """Area and centre of every view's mask.

    Attributes:
        areas: Share of the picture.
        centroids: Pixels; NaN for an empty mask.
        boxes: Left, top, right, bottom in pixels; NaN for an empty mask.
    """

    areas: Float[Tensor, "v"]
    centroids: Float[Tensor, "v 2"]
    boxes: Float[Tensor, "v 4"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """The animal in the world, mm.

    Attributes:
        centre: Of the visual hull's volume.
        low: Smallest coordinates of the hull.
        high: Largest coordinates of the hull.
        volume_ml: Of the hull; it is larger than the animal.
    """

    centre: Float[Tensor, "3"]
    low: Float[Tensor, "3"]
    high: Float[Tensor, "3"]
    volume_ml: float


def measure_silhouettes(masks: Float[Tensor, "v 1 h w"]) -> Silhouettes:
    """Area, centre and bounds of each mask."""
    height, width = masks.shape[-2:]
    inside = masks[:, 0] > FOREGROUND
    columns, rows = inside.sum(1).double(), inside.sum(2).double()  # a moment of a mask is one of its sums
    count = columns.sum(1)
    sums = torch.stack([columns @ _centres(width), rows @ _centres(height)], 1)
    centroids = sums / count[:, None]  # 0 / 0 is NaN
    shown_columns, shown_rows = (columns > 0).double(), (rows > 0).double()
    boxes = torch.stack(
        [
            _first(shown_columns),
            _first(shown_rows),
            width - _first(shown_columns.flip(1)),
            height - _first(shown_rows.flip(1)),
        ],
        1,
    )
    boxes = torch.where(count[:, None] > 0, boxes, torch.nan)
    return Silhouettes(areas=count / (height * width), centroids=centroids, boxes=boxes)


def triangulate(pixels: Float[Tensor, "v 2"], cameras: Cameras) -> Float[Tensor, "3"]:
    """The world point nearest to the rays through one pixel of each camera, in the least-squares sense.

    Args:
        pixels: One for each camera; NaN where it saw nothing.
        cameras: (V,) in the world.

    Returns:
        float64; NaN with fewer than two rays.
    """
    cameras = cameras.to(torch.float64)
    ends = cameras.unproject(pixels.double()[:, None], torch.ones(len(pixels), 1, dtype=torch.float64))[:, 0]
    seen = ends.isfinite().all(-1)
    if int(seen.sum()) < MIN_VIEWS:
        return torch.full((3,), torch.nan, dtype=torch.float64)
    return nearest_to_lines(cameras.centres[seen], (ends - cameras.centres)[seen])


def nearest_to_lines(points: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]) -> Float[Tensor, "3"]:
    """The point with the least sum of squared distances from lines; directions of any length."""
    unit = torch.nn.functional.normalize(directions, dim=-1)
    across = torch.eye(3, dtype=points.dtype) - unit[:, :, None] * unit[:, None, :]
    return torch.linalg.lstsq(across.sum(0), (across @ points[..., None]).sum(0)).solution[:, 0]


def rig_focus(cameras: Cameras) -> Float[Tensor, "3"]:
    """The world point that a rig's optical axes pass nearest to."""
    return nearest_to_lines(cameras.centres, cameras.w2c[..., 2, :3])


def locate(masks: Float[Tensor, "v 1 h w"], cameras: Cameras, silhouettes: Silhouettes | None = None) -> Subject | None:
    """The centre and extent of the visual hull.

    Args:
        masks: Of all views, any size; the cameras' size must be the same.
        cameras: (V,) in the world, mm.
        silhouettes: Of these masks, when they were measured before.

    Returns:
        None when fewer than two masks show anything or the silhouettes have no common volume.
    """
    found = silhouettes or measure_silhouettes(masks)
    guess = triangulate(found.centroids, cameras)
    if not bool(guess.isfinite().all()):
        return None
    seen = found.boxes.isfinite().all(-1)
    half_boxes = (found.boxes[:, 2:] - found.boxes[:, :2]).norm(dim=-1) / 2
    distances = (cameras.centres.double() - guess).norm(dim=-1)
    radius = float((half_boxes * distances / cameras.K[:, 0, 0])[seen].max()) * CUBE_MARGIN
    voxels = voxel_grid(HULL_VOXELS, guess.to(masks.dtype), radius)
    order = [int(v) for v in found.areas.argsort() if bool(seen[v])]  # small silhouettes leave the fewest voxels
    inside = carve_inside(voxels, masks[order], cameras[order].to(masks.dtype), FOREGROUND)
    return None if not bool(inside.any()) else _subject_of(voxels, inside, 2 * radius / HULL_VOXELS)


def _subject_of(voxels: Float[Tensor, "n 3"], inside: Bool[Tensor, "n"], edge_mm: float) -> Subject:
    points = voxels[inside].double()
    return Subject(
        centre=points.mean(0),
        low=points.amin(0) - edge_mm / 2,
        high=points.amax(0) + edge_mm / 2,
        volume_ml=len(points) * edge_mm**3 / 1000,
    )


def _centres(size: int) -> Float[Tensor, "n"]:
    return torch.arange(size, dtype=torch.float64) + 0.5


def _first(occupied: Float[Tensor, "v n"]) -> Float[Tensor, "v"]:
    return occupied.argmax(1).to(occupied.dtype)
