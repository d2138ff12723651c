"""A watertight mesh with vertex colours from Gaussians: depth maps rendered from all around, fused into a volume.

Each view says of a voxel either how far in front of the surface it is (a truncated signed distance, Curless and Levoy
1996), or that its ray passes by, so that it is empty. What no view looks at is inside. Marching cubes on the mean, with
a border of empty voxels around it, closes every surface.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32
from scipy.ndimage import label
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional as F

from mouselift.errors import InputError
from mouselift.geometry import Cameras, Gaussians, Similarity
from mouselift.geometry.rigs import RIG_RADIUS, sphere
from mouselift.render import render

MIN_OPACITY = 0.1  # of Gaussians that the volume must contain
EXTENT_SIGMAS = 2.0  # around their centres
MARGIN = 1.05  # of the pictures around the volume
SURFACE_ALPHA = 0.5  # a ray with less passes by
BORDER = 2  # voxels on each side, the outer ones empty
MIN_WEIGHT = 0.05  # of all views together: with less, a voxel is unseen
MIN_PART = 0.01  # voxels of a part that is kept, share of the largest
POINTS_AT_ONCE = 1 << 15
FIRST_RESOLUTION = 96  # of a first look, which finds out where the surface is
EMPTY, INSIDE = 1.0, -1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: In the frame and units of the Gaussians it was made from.
        faces: Indices of vertices, counter-clockwise seen from outside.
        colours: sRGB of the vertices, [0, 1].
    """

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    colours: Float32[np.ndarray, "v 3"]

    def volume(self) -> float:
        """The enclosed volume, in cubed units of the vertices."""
        a, b, c = (self.vertices[self.faces[:, i]].astype(np.float64) for i in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def to_mesh(
    gaussians: Gaussians,
    *,
    resolution: int = 128,
    num_views: int = 24,
    image_size_px: int = 256,
    truncation_voxels: float = 4.0,
) -> Mesh:
    """Mesh the surface that renders of the Gaussians show.

    Args:
        gaussians: No batch dimension. Those that no opaque surface is near are left out.
        resolution: Voxels along the longest edge of the volume, at least 8.
        num_views: Spread evenly over a sphere around the Gaussians, at least 6.
        image_size_px: Of the rendered depth maps.
        truncation_voxels: Half the thickness of the layer around the surface in which distances are averaged.

    Returns:
        Closed, every edge shared by two faces.

    Raises:
        InputError: If scikit-image is not installed, or there is nothing to see.
        ValueError: If there is a batch dimension or a number is too small.
    """
    if gaussians.batch_shape or resolution < 8 or num_views < 6:
        raise ValueError(f"to_mesh: one scene, {resolution=} of at least 8 and {num_views=} of at least 6")
    marching_cubes = _marching_cubes()
    scene = gaussians.detach().to("cpu", torch.float32)
    box = _visible_box(scene)
    looks = {"num_views": num_views, "image_size_px": image_size_px}
    first = min(resolution, FIRST_RESOLUTION)
    box = _fuse(scene, box, resolution=first, truncation_voxels=truncation_voxels, **looks).solid_box()
    within = ((scene.means >= box[0]) & (scene.means <= box[1])).all(-1)
    volume = _fuse(scene.select(within), box, resolution=resolution, truncation_voxels=truncation_voxels, **looks)
    corners, faces, _, _ = marching_cubes(volume.distances, 0.0)
    vertices = volume.points(torch.from_numpy(corners.copy()).float())
    parts = vertices.split(POINTS_AT_ONCE)
    colours = torch.cat([_colours(part, volume.maps, 2 * volume.truncation) for part in parts])
    return Mesh(
        vertices=volume.unit_from_scene.inverse().apply(vertices).numpy(),
        faces=faces.astype(np.int32),
        colours=_filled(colours, vertices),
    )


def _marching_cubes() -> Callable[[np.ndarray, float], tuple[np.ndarray, ...]]:
    if find_spec("skimage") is None:
        raise InputError("to_mesh: needs the extra `mesh`: pip install 'mouselift[mesh]'")
    return import_module("skimage.measure").marching_cubes


def _visible_box(scene: Gaussians) -> Float[Tensor, "2 3"]:
    """The lowest and highest corner of what can be seen."""
    seen = scene.select(scene.opacities >= MIN_OPACITY)
    if not len(seen):
        raise InputError(f"to_mesh: expected Gaussians of opacity {MIN_OPACITY:g} or more, found none")
    reach = EXTENT_SIGMAS * seen.scales.amax(-1, keepdim=True)
    return torch.stack([(seen.means - reach).amin(0), (seen.means + reach).amax(0)])


@dataclass(frozen=True, kw_only=True)
class _Maps:
    """What every view sees: its pictures, and the matrix that takes points to pixels and depth.

    Attributes:
        layers: alpha * RGB, alpha * depth, alpha * cosine between the surface's normal and the axis, alpha.
        pixels_from_unit: Homogeneous: divide by the third component, which is the depth.
    """

    layers: Float[Tensor, "v 6 h w"]
    pixels_from_unit: Float[Tensor, "v 3 4"]


def _render_maps(scene: Gaussians, cameras: Cameras) -> _Maps:
    with torch.no_grad():
        seen = render(scene, cameras, (0.0, 0.0, 0.0))
    focal = cameras.K[:, 0, 0][:, None, None, None]
    slope_x, slope_y = torch.gradient(seen.depth, dim=(-1, -2))
    footprint = seen.depth.clamp_min(1e-6) / focal  # of a pixel on a surface across the axis
    cosine = 1 / (1 + (slope_x / footprint).square() + (slope_y / footprint).square()).sqrt()
    layers = torch.cat([seen.image, seen.alpha * seen.depth, seen.alpha * cosine, seen.alpha], dim=1)
    return _Maps(layers=layers, pixels_from_unit=cameras.K @ cameras.w2c[:, :3])


@dataclass(frozen=True, kw_only=True)
class _Observation:
    """What every view says of some points.

    Attributes:
        in_front: Distance to the surface behind the point, along the surface's normal; negative behind the surface.
        cosine: Between that normal and the axis.
        alpha: Of the point's ray.
        image: Colour of the ray, straight.
    """

    in_front: Float[Tensor, "v n"]
    cosine: Float[Tensor, "v n"]
    alpha: Float[Tensor, "v n"]
    image: Float[Tensor, "v 3 n"]


def _observe(points: Float[Tensor, "n 3"], maps: _Maps) -> _Observation:
    pixels = points @ maps.pixels_from_unit[..., :3].mT + maps.pixels_from_unit[:, None, :, 3]  # (V, N, 3)
    depth = pixels[..., 2]
    size = pixels.new_tensor([maps.layers.shape[-1], maps.layers.shape[-2]])
    grid = 2 * pixels[..., :2] / depth[..., None] / size - 1
    sampled = F.grid_sample(maps.layers, grid[:, None], align_corners=False)[:, :, 0]  # zeros outside
    alpha = sampled[:, 5]
    image, surface, cosine = (sampled[:, :5] / alpha[:, None].clamp_min(1e-6)).split([3, 1, 1], dim=1)
    return _Observation(in_front=(surface[:, 0] - depth) * cosine[:, 0], cosine=cosine[:, 0], alpha=alpha, image=image)


@dataclass(frozen=True, kw_only=True)
class _Volume:
    """Signed distances at a grid of voxels, and what they came from; a frame in which the box lies in the unit ball.

    Attributes:
        distances: Truncated, positive outside.
        origin: The first voxel's centre, unit frame.
        voxel: Edge of a voxel, unit frame.
        truncation: Unit frame.
        maps: What the views saw.
        unit_from_scene: The frame; without rotation.
    """

    distances: Float32[np.ndarray, "x y z"]
    origin: Float[Tensor, "3"]
    voxel: float
    truncation: float
    maps: _Maps
    unit_from_scene: Similarity

    def points(self, indices: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Where places between voxels are, unit frame."""
        return indices * self.voxel + self.origin

    def solid_box(self) -> Float[Tensor, "2 3"]:
        """The lowest and highest corner of what is inside, two voxels around it included, scene frame."""
        inside = torch.from_numpy(np.argwhere(self.distances < 0)).float()
        corners = torch.stack([inside.amin(0) - 2, inside.amax(0) + 2])
        return self.unit_from_scene.inverse().apply(self.points(corners))


def _fuse(
    scene: Gaussians,
    box: Float[Tensor, "2 3"],
    *,
    num_views: int,
    image_size_px: int,
    resolution: int,
    truncation_voxels: float,
) -> _Volume:
    """Look at a box from all around, and fuse what is seen."""
    radius = (box[1] - box[0]).norm() / 2
    unit_from_scene = Similarity(scale=1 / radius, rotation=torch.eye(3), translation=-box.mean(0) / radius)
    fov_deg = 2 * MARGIN * math.degrees(math.asin(1 / RIG_RADIUS))
    cameras = sphere(num_views, fov_deg=fov_deg, size_px=image_size_px)
    maps = _render_maps(scene.transformed(unit_from_scene), cameras)
    extents = (box[1] - box[0]) / radius
    voxel = float(extents.max()) / (resolution - 2 * BORDER)
    axes = [(torch.arange(n) - (n - 1) / 2) * voxel for n in ((extents / voxel).ceil().int() + 2 * BORDER).tolist()]
    truncation = truncation_voxels * voxel
    distances = _without_specks(_mean_distances(axes, maps, truncation).numpy())
    if not (distances < 0).any():
        raise InputError(f"to_mesh: expected an opaque surface, found none with alpha above {SURFACE_ALPHA:g}")
    return _Volume(
        distances=distances,
        origin=torch.stack([axis[0] for axis in axes]),
        voxel=voxel,
        truncation=truncation,
        maps=maps,
        unit_from_scene=unit_from_scene,
    )


def _mean_distances(axes: list[Tensor], maps: _Maps, truncation: float) -> Float[Tensor, "x y z"]:
    """Mean truncated signed distance at a grid: positive is outside; the border is empty."""
    slabs: list[Tensor] = []
    for x in axes[0]:
        seen = _observe(torch.cartesian_prod(x[None], axes[1], axes[2]), maps)
        hit = seen.alpha > SURFACE_ALPHA
        weight = torch.where(hit, seen.cosine.square() * (seen.in_front > -truncation), 1)
        distance = torch.where(hit, (seen.in_front / truncation).clamp(max=1), EMPTY)
        total = weight.sum(0)
        mean = torch.where(total > MIN_WEIGHT, (weight * distance).sum(0) / total.clamp_min(MIN_WEIGHT), INSIDE)
        slabs.append(mean.reshape(len(axes[1]), len(axes[2])))
    volume = torch.stack(slabs)
    volume = torch.where(
        volume == 0, torch.finfo(volume.dtype).tiny, volume
    )  # no vertex on a grid point: no empty face
    bordered = torch.full_like(volume, EMPTY)
    bordered[1:-1, 1:-1, 1:-1] = volume[1:-1, 1:-1, 1:-1]
    return bordered


def _without_specks(volume: Float32[np.ndarray, "x y z"]) -> Float32[np.ndarray, "x y z"]:
    """Fill the bubbles, which nobody can see from outside, and drop parts that are small beside the largest."""
    outside = _parts(volume > 0)
    volume = np.where((volume > 0) & (outside != outside[0, 0, 0]), -volume, volume)
    parts = _parts(volume < 0)
    sizes = np.bincount(parts.ravel())
    small = sizes < MIN_PART * sizes[1:].max(initial=0)
    return np.where((volume < 0) & small[parts], -volume, volume)


def _parts(mask: Bool[np.ndarray, "x y z"]) -> Int32[np.ndarray, "x y z"]:
    """Number the parts of a volume that share faces of voxels, from 1; 0 elsewhere."""
    numbered = np.empty(mask.shape, dtype=np.int32)
    label(mask, output=numbered)
    return numbered


def _colours(vertices: Float[Tensor, "v 3"], maps: _Maps, tolerance: float) -> Float[Tensor, "v 4"]:
    """Mean colour in the views that see each vertex, most of all those that face its surface, and their weight."""
    seen = _observe(vertices, maps)
    visible = (seen.alpha > SURFACE_ALPHA) & (seen.in_front.abs() < tolerance)
    weight = torch.where(visible, seen.cosine.square(), 0)
    total = weight.sum(0)[:, None]
    mean = (weight[:, None] * seen.image).sum(0).mT / total.clamp_min(1e-9)
    return torch.cat([mean.clamp(0, 1), total], dim=-1)


def _filled(colours: Float[Tensor, "v 4"], vertices: Float[Tensor, "v 3"]) -> Float32[np.ndarray, "v 3"]:
    """The colours; that of the nearest seen vertex where no view sees one."""
    rgb, seen = colours[:, :3].numpy().copy(), colours[:, 3].numpy() > MIN_WEIGHT
    if seen.any() and not seen.all():
        points = vertices.numpy()
        rgb[~seen] = rgb[seen][KDTree(points[seen]).query(points[~seen])[1]]
    return rgb
