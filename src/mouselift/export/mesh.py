"""A watertight mesh with vertex colours from Gaussians: depth maps rendered from all around, fused into a volume.

Each view says of a voxel either how far in front of the surface it is (a truncated signed distance, Curless and Levoy
1996), or that its ray passes by, so that it is empty. What no view looks at is inside. Marching cubes on the mean, with a
border of empty voxels around it, closes every surface.
"""

from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional as F

from mouselift.errors import InputError
from mouselift.geometry import Cameras, Gaussians, Similarity
from mouselift.geometry.rigs import RIG_RADIUS, sphere
from mouselift.render import RenderOutput, render

MIN_OPACITY = 0.1  # of Gaussians that the volume must contain
EXTENT_SIGMAS = 2.0  # around their centres
MARGIN = 1.05  # of the pictures around the volume
SURFACE_ALPHA = 0.5  # a ray with less passes by
BORDER = 2  # empty voxels on each side
BLACK = (0.0, 0.0, 0.0)
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
        gaussians: No batch dimension. Stray ones widen the volume: prune them first.
        resolution: Voxels along the longest edge of the volume, at least 8.
        num_views: Spread evenly over a sphere around the Gaussians, at least 6.
        image_size_px: Of the rendered depth maps.
        truncation_voxels: Half the thickness of the layer around the surface in which distances are averaged; parts
            thinner than it grow.

    Returns:
        Closed, every edge shared by two faces.

    Raises:
        InputError: If scikit-image is not installed, or there is nothing to see.
        ValueError: If there is a batch dimension or a number is too small.
    """
    if gaussians.batch_shape or resolution < 8 or num_views < 6:
        raise ValueError(f"to_mesh: one scene, {resolution=} of at least 8 and {num_views=} of at least 6")
    measure = _marching_cubes_module()
    unit_from_scene, half_extents = _unit_frame(gaussians)
    scene = replace(gaussians, sh=gaussians.sh.detach()).detach().to("cpu", torch.float32).transformed(unit_from_scene)
    fov_deg = 2 * MARGIN * float(np.degrees(np.arcsin(1 / RIG_RADIUS)))
    cameras = sphere(num_views, fov_deg=fov_deg, size_px=image_size_px)
    with torch.no_grad():
        layers = render(scene.to(torch.float32), cameras, BLACK)
        voxel = 2 * float(half_extents.max()) / (resolution - 2 * BORDER)
        shape = [int(n) + 2 * BORDER for n in (2 * half_extents / voxel).ceil()]
        axes = [(torch.arange(n) - (n - 1) / 2) * voxel for n in shape]
        volume = _fuse(axes, layers, cameras, truncation_voxels * voxel).numpy()
    if not (volume < 0).any():
        raise InputError("to_mesh: expected Gaussians with an opaque surface, found none that alpha 0.5 bounds")
    corners, faces, normals, _ = measure.marching_cubes(volume, 0.0, gradient_direction="ascent")
    vertices = torch.from_numpy(corners.copy()).float() * voxel + torch.stack([axis[0] for axis in axes])
    colours = _colours(vertices, torch.from_numpy(normals.copy()), layers, cameras, 2 * truncation_voxels * voxel)
    return Mesh(
        vertices=unit_from_scene.inverse().apply(vertices).numpy(), faces=faces.astype(np.int32), colours=colours
    )  # fmt: skip


def _marching_cubes_module():  # noqa: ANN202
    if find_spec("skimage") is None:
        raise InputError("to_mesh: needs the extra `mesh`: pip install 'mouselift[mesh]'")
    return import_module("skimage.measure")


def _unit_frame(gaussians: Gaussians) -> tuple[Similarity, Float[Tensor, "3"]]:
    """A frame in which all that is visible lies in the unit ball, and half the edges of its box there."""
    seen = gaussians.detach().to("cpu", torch.float32)
    seen = seen.select(seen.opacities >= MIN_OPACITY)
    if not len(seen):
        raise InputError(f"to_mesh: expected Gaussians of opacity {MIN_OPACITY:g} or more, found none")
    reach = EXTENT_SIGMAS * seen.scales.amax(-1, keepdim=True)
    low, high = (seen.means - reach).amin(0), (seen.means + reach).amax(0)
    centre = (low + high) / 2
    radius = ((seen.means - centre).norm(dim=-1) + reach[:, 0]).max()
    unit_from_scene = Similarity(scale=1 / radius, rotation=torch.eye(3), translation=-centre / radius)
    return unit_from_scene, (high - low) / (2 * radius)


def _fuse(axes: list[Tensor], layers: RenderOutput, cameras: Cameras, truncation: float) -> Float[Tensor, "x y z"]:
    """Mean truncated signed distance at the grid: positive is outside; the border is empty."""
    points = torch.cartesian_prod(*axes)
    total, count = torch.zeros(len(points)), torch.zeros(len(points))
    for view in range(len(cameras)):
        in_front, alpha = _in_front(points, layers, cameras, view)
        hit = alpha > SURFACE_ALPHA
        observed = ~hit | (in_front > -truncation)
        distance = torch.where(hit, (in_front / truncation).clamp(max=1), EMPTY)
        total += torch.where(observed, distance, 0)
        count += observed
    volume = torch.where(count > 0, total / count.clamp_min(1), INSIDE).reshape([len(axis) for axis in axes])
    volume = torch.where(
        volume == 0, torch.finfo(volume.dtype).tiny, volume
    )  # no vertex on a grid point: no empty face
    outside = torch.full_like(volume, EMPTY)
    core = tuple(slice(1, -1) for _ in axes)
    outside[core] = volume[core]
    return outside


def _in_front(
    points: Float[Tensor, "n 3"], layers: RenderOutput, cameras: Cameras, view: int
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """How far points are in front of the surface that a view sees, along its axis, and the view's alpha there."""
    camera = cameras[view]
    depth, alpha = layers.depth[view], layers.alpha[view]
    z = camera.to_camera(points)[..., 2]
    sampled = _sample(torch.cat([alpha * depth, alpha]), camera.project(points), camera)
    return sampled[0] / sampled[1].clamp_min(1e-6) - z, sampled[1]


def _sample(image: Float[Tensor, "c h w"], pixels: Float[Tensor, "n 2"], camera: Cameras) -> Float[Tensor, "c n"]:
    """Bilinear; 0 outside the picture."""
    grid = pixels * pixels.new_tensor([2 / camera.width, 2 / camera.height]) - 1
    return F.grid_sample(image[None], grid[None, None], align_corners=False)[0, :, 0]


def _colours(
    vertices: Float[Tensor, "v 3"],
    normals: Float[Tensor, "v 3"],
    layers: RenderOutput,
    cameras: Cameras,
    tolerance: float,
) -> Float32[np.ndarray, "v 3"]:
    """Mean colour in the views that see a vertex, frontal views first; of the nearest seen vertex where none does."""
    total, weight = torch.zeros(len(vertices), 3), torch.zeros(len(vertices), 1)
    for view in range(len(cameras)):
        camera = cameras[view]
        in_front, alpha = _in_front(vertices, layers, cameras, view)
        facing = (F.normalize(camera.centres - vertices, dim=-1) * normals).sum(-1).clamp_min(0)
        share = torch.where((in_front > -tolerance) & (alpha > SURFACE_ALPHA), facing.square(), 0)[:, None]
        rgb = _sample(layers.image[view], camera.project(vertices), camera).mT
        total += share * rgb / alpha[:, None].clamp_min(SURFACE_ALPHA)  # rendered over black: straight colour
        weight += share
    colours = (total / weight.clamp_min(1e-9)).clamp(0, 1).numpy()
    seen = weight[:, 0].numpy() > 1e-3
    if seen.any() and not seen.all():
        points = vertices.numpy()
        colours[~seen] = colours[seen][cKDTree(points[seen]).query(points[~seen])[1]]
    return colours
