"""The visual hull: what several silhouettes allow the subject to be (Laurentini 1994), soft and without a mesh."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry.cameras import Cameras
from mouselift.geometry.gaussians import Gaussians
from mouselift.geometry.rays import camera_rays
from mouselift.geometry.sh import dc_from_rgb
from mouselift.geometry.views import Views

MIN_SEEN_SHARE = 0.5  # of the cameras: what no more of them have in their pictures is not where they look
SURFACE_LEVEL = 0.5  # of the largest occupancy on a ray: where it enters the hull
SURFACE_OPACITY = 0.9  # of a Gaussian that stands for a pixel
SURFACE_SAMPLES = 64  # along each ray
RAY_SAMPLES = 32  # the same, where a coarser entry does
POINTS_AT_A_TIME = 1 << 18  # in all cameras together: their intermediates stay in the cache, and memory is bounded
MIN_SURFACE_OCCUPANCY = 0.3  # of the hull on a pixel's ray: the silhouettes agree that something is there


def carve(
    points: Float[Tensor, "*batch n 3"], masks: Float[Tensor, "*batch v 1 h w"], cameras: Cameras
) -> Float[Tensor, "*batch n"]:
    """Soft occupancy of the visual hull at points: the smallest mask value among the cameras that see them.

    A camera that does not have a point in its picture says nothing about it; a point that no more than half of
    them have is empty.

    Args:
        points: In the frame of the cameras.
        masks: Observed foreground, [0, 1], sampled bilinearly.
        cameras: (..., V) pinhole or distorted.

    Returns:
        [0, 1].
    """
    return _smallest_seen(cameras.project(points[..., None, :, :]), masks, cameras)


def carve_inside(
    points: Float[Tensor, "n 3"], masks: Float[Tensor, "v 1 h w"], cameras: Cameras, level: float
) -> Bool[Tensor, "n"]:
    """Whether `carve` is above a level, several times as fast: what one camera rules out, the next need not look at.

    Args:
        points: In the frame of the cameras.
        masks: Observed foreground, [0, 1], sampled bilinearly; those that rule out most come first.
        cameras: (V,) pinhole or distorted.
        level: At least 0, below 1.
    """
    left = torch.arange(len(points), device=points.device)
    times_seen = torch.zeros(len(points), device=points.device)
    matrices = cameras.K @ cameras.w2c[:, :3]  # of pinholes
    for v in range(len(cameras)):
        if cameras.distortion is None:
            x, y, z = (points[left] @ matrices[v, :, :3].mT + matrices[v, :, 3]).unbind(-1)
            inverse = z.clamp_min(0).reciprocal()  # behind the camera: infinite, which no picture contains
            pixels = torch.stack([x * inverse, y * inverse], dim=-1)
        else:
            pixels = cameras[v].project(points[left])
        values, seen = _sampled(pixels, masks[v], cameras)
        times_seen[left] += seen
        left = left[~seen | (values > level)]
    inside = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    inside[left] = True
    return inside & (times_seen / len(cameras) > MIN_SEEN_SHARE)


def _sampled(
    pixels: Float[Tensor, "n 2"], mask: Float[Tensor, "1 h w"], cameras: Cameras
) -> tuple[Float[Tensor, "n"], Bool[Tensor, "n"]]:
    """The mask at pixels, and whether they are in the picture."""
    grid = pixels * pixels.new_tensor([2 / cameras.width, 2 / cameras.height]) - 1
    seen = (grid.abs() <= 1).all(-1)
    near = grid.nan_to_num(2.0, posinf=2.0, neginf=-2.0).clamp(-2, 2)[None, None].to(mask.dtype)
    return F.grid_sample(mask[None], near, padding_mode="border", align_corners=False)[0, 0, 0], seen


def _smallest_seen(
    pixels: Float[Tensor, "*batch v n 2"], masks: Float[Tensor, "*batch v 1 h w"], cameras: Cameras
) -> Float[Tensor, "*batch n"]:
    grid = pixels * pixels.new_tensor([2 / cameras.width, 2 / cameras.height]) - 1
    seen = (grid.abs() <= 1).all(-1)  # NaN, a point behind the camera, compares as False
    flat = grid.nan_to_num(2.0, posinf=2.0, neginf=-2.0).clamp(-2, 2).reshape(-1, 1, grid.shape[-2], 2).to(masks.dtype)
    values = F.grid_sample(masks.flatten(0, -4), flat, padding_mode="border", align_corners=False)
    values = values.reshape(seen.shape).masked_fill(~seen, 1)
    return values.amin(-2) * (seen.float().mean(-2) > MIN_SEEN_SHARE)


def _carve_along(
    origins: Float[Tensor, "*batch n 3"],
    directions: Float[Tensor, "*batch n 3"],
    distances: Float[Tensor, "*batch n s"],
    masks: Float[Tensor, "*batch v 1 h w"],
    cameras: Cameras,
) -> Float[Tensor, "*batch n s"]:
    """`carve` at distances along rays; a pinhole's homogeneous pixel is linear in them, which saves most work."""
    if cameras.distortion is not None:
        points = origins[..., None, :] + distances[..., None] * directions[..., None, :]
        return carve(points.flatten(-3, -2), masks, cameras).reshape(distances.shape)
    at_origin = cameras.to_camera(origins[..., None, :, :]) @ cameras.K.mT  # (..., V, N, 3)
    per_unit = (directions[..., None, :, :] @ cameras.w2c[..., :3, :3].mT) @ cameras.K.mT
    homogeneous = [
        torch.addcmul(a[..., None], distances[..., None, :, :], b[..., None])
        for a, b in zip(at_origin.unbind(-1), per_unit.unbind(-1), strict=True)
    ]
    x, y, z = (t.flatten(-2) for t in homogeneous)  # (..., V, N*S)
    inverse = z.clamp_min(0).reciprocal()  # behind the camera: infinite, which no picture contains
    return _smallest_seen(torch.stack([x * inverse, y * inverse], dim=-1), masks, cameras).reshape(distances.shape)


def enter_hull(
    origins: Float[Tensor, "*batch n 3"],
    directions: Float[Tensor, "*batch n 3"],
    near: Float[Tensor, "*batch n"],
    far: Float[Tensor, "*batch n"],
    masks: Float[Tensor, "*batch v 1 h w"],
    cameras: Cameras,
    *,
    samples: int = RAY_SAMPLES,
) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n"]]:
    """Where rays enter the visual hull.

    Occupancy is sampled evenly along each ray; the entry is where it first reaches half of its largest value there,
    interpolated between two samples. A ray that only grazes the hull thus still gets its most likely depth.

    Args:
        origins: Starts of the rays.
        directions: Unit directions.
        near: Where to begin to look, distance from the origin.
        far: Where to stop.
        masks: Silhouettes.
        cameras: (..., V) the cameras that saw them.
        samples: Along each ray, at least two.

    Returns:
        Distance of the entry from the origin, and the largest occupancy on the ray in [0, 1]: 0 where it misses.
    """
    rays = max(1, POINTS_AT_A_TIME // (samples * cameras.K[..., 0, 0].numel()))
    count = near.shape[-1]
    parts = [
        _enter_hull(origins[..., k, :], directions[..., k, :], near[..., k], far[..., k], masks, cameras, samples)
        for k in (slice(start, start + rays) for start in range(0, max(count, 1), rays))
    ]
    entries, most = zip(*parts, strict=True)
    return torch.cat(entries, -1), torch.cat(most, -1)


def _enter_hull(
    origins: Float[Tensor, "*batch n 3"],
    directions: Float[Tensor, "*batch n 3"],
    near: Float[Tensor, "*batch n"],
    far: Float[Tensor, "*batch n"],
    masks: Float[Tensor, "*batch v 1 h w"],
    cameras: Cameras,
    samples: int,
) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n"]]:
    """`enter_hull` of rays that are taken together."""
    steps = torch.linspace(0, 1, samples, dtype=near.dtype, device=near.device)
    distances = near[..., None] + (far - near)[..., None] * steps  # (..., N, S)
    occupancy = _carve_along(origins, directions, distances, masks, cameras)
    most = occupancy.amax(-1)
    level = SURFACE_LEVEL * most
    first = (occupancy >= level[..., None]).byte().argmax(-1, keepdim=True)  # the first of equal values
    before = (first - 1).clamp_min(0)
    high, low = occupancy.gather(-1, first)[..., 0], occupancy.gather(-1, before)[..., 0]
    share = torch.where(high > low, (high - level) / (high - low).clamp_min(1e-6), 0).clamp(0, 1)
    spacing = (far - near) / (samples - 1)
    return distances.gather(-1, first)[..., 0] - share * spacing, most


def voxel_grid(
    resolution: int, centre: Float[Tensor, "3"], half_extent: Float[Tensor, ""] | float
) -> Float[Tensor, "n 3"]:
    """Centres of a cube's voxels, x slowest.

    Args:
        resolution: Voxels along each edge.
        centre: Of the cube.
        half_extent: Half of its edge.
    """
    steps = (torch.arange(resolution, dtype=centre.dtype, device=centre.device) + 0.5) * (2 / resolution) - 1
    return centre + half_extent * torch.cartesian_prod(steps, steps, steps)


def hull_gaussians(views: Views, footprint: float = 0.5, half_depth: float = 1.0) -> Gaussians:
    """The surface of the visual hull, one Gaussian for each pixel of a mask, in its colour.

    Args:
        views: (V,) pinhole, the subject about the origin.
        footprint: Standard deviation of a Gaussian, in widths of its pixel.
        half_depth: How far before and behind the point nearest to the origin a ray looks for the hull.

    Returns:
        By view, row and column; none where the silhouettes have nothing in common.
    """
    inside = views.masks[:, 0] > 0.5
    origins, directions = (rays[inside] for rays in camera_rays(views.cameras))
    nearest = -(origins * directions).sum(-1)
    near, far = nearest - half_depth, nearest + half_depth
    entry, occupancy = enter_hull(origins, directions, near, far, views.masks, views.cameras, samples=SURFACE_SAMPLES)
    width_at_unit = (1 / views.cameras.K[:, 0, 0])[:, None, None].expand_as(inside)[inside]
    means = origins + entry[:, None] * directions
    scene = Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).to(means).repeat(len(means), 1),
        scales=(footprint * entry * width_at_unit)[:, None].repeat(1, 3),
        opacities=torch.full_like(entry, SURFACE_OPACITY),
        sh=dc_from_rgb(views.images.movedim(1, -1)[inside])[:, None],
    )
    return scene.select((occupancy > MIN_SURFACE_OCCUPANCY) & (entry > 0))
