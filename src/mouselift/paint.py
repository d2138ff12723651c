"""Colour a fitted body from the one picture that shows it: what is hidden takes the colour of its mirror side."""

from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.linalg import spsolve
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional as F

from mouselift.body.build import joint_scales
from mouselift.body.mesh import Body, PosedBody, pose_body, procedural_mouse
from mouselift.body.pose import BodyPose
from mouselift.geometry import Gaussians, Similarity, Views
from mouselift.synth.fur import FurConfig, grow_coloured_fur

FUR = FurConfig(num_hairs=24_000, num_skin=12_000, num_whiskers=7, lift=0.10, length=0.7)
HIDDEN_BEHIND_MM = 3.0  # a vertex this far behind the nearest one along its ray is hidden
GRID_PX = 96  # of the depth map that decides it
EDGE_PX = 2  # colours this near to the outline are mixed with the background
MIRROR_WEIGHT = 0.1  # of what the mirror side shows
SMOOTHNESS = 0.02  # of the Laplacian; what is seen has weight 1


def paint_body(pose: BodyPose, view: Views, rng: np.random.Generator) -> Gaussians:
    """Skin, fur and whiskers of a posed body in the colours of a picture.

    Args:
        pose: No batch, in the frame of the view's camera.
        view: (1,) the picture.
        rng: Scatters the hair.

    Returns:
        Gaussians in the frame of the camera.
    """
    body = procedural_mouse()
    posed, frame_from_mm = _posed_mm(body, pose)
    vertices = frame_from_mm.apply(torch.from_numpy(posed.vertices).float())
    normals = torch.from_numpy(posed.normals).float() @ frame_from_mm.rotation.mT
    colours, weights = _seen_colours(vertices, normals, view, HIDDEN_BEHIND_MM * float(pose.unit))
    spread = _spread(body, colours.numpy(), weights.numpy())
    return grow_coloured_fur(body, posed, spread, FUR, rng).transformed(frame_from_mm)


def _posed_mm(body: Body, pose: BodyPose) -> tuple[PosedBody, Similarity]:
    """The posed body in millimetres with the rest pose's pelvis, and the way from there to the pose's frame."""
    scales = joint_scales(pose.factors).numpy()
    rotations = pose.rotations.numpy().astype(np.float32).copy()
    frame_rotation = pose.rotations[0]
    rotations[0] = np.eye(3)
    posed = pose_body(body, rotations, joint_scales=scales)
    pelvis = torch.from_numpy(body.joints[0]).float()
    translation = pose.root - pose.unit * frame_rotation @ pelvis
    return posed, Similarity(scale=pose.unit, rotation=frame_rotation, translation=translation)


def _seen_colours(
    vertices: Float[Tensor, "n 3"], normals: Float[Tensor, "n 3"], view: Views, behind: float
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n"]]:
    """Colour of every vertex in the picture, and how far to trust it: 0 where it is hidden or outside the mask."""
    camera = view.cameras
    pixels = camera.project(vertices[None])[0]
    depths = camera.to_camera(vertices[None])[0, :, 2]
    towards = F.normalize(camera.centres[0] - vertices, dim=-1)
    facing = (normals * towards).sum(-1)
    visible = _nearest(pixels / torch.tensor([camera.width, camera.height]), depths, behind) & (facing > 0.1)
    solid = -F.max_pool2d(-view.masks, 2 * EDGE_PX + 1, stride=1, padding=EDGE_PX)
    grid = (2 * pixels / torch.tensor([camera.width, camera.height]) - 1)[None, None]
    layers = torch.cat([view.images * solid, solid], dim=1)
    sampled = F.grid_sample(layers, grid, align_corners=False)[0, :, 0]  # (4, N)
    colours = (sampled[:3] / sampled[3:].clamp_min(1e-3)).T.clamp(0, 1)
    return colours, sampled[3] * visible * facing.clamp_min(0)


def _nearest(places: Float[Tensor, "n 2"], depths: Float[Tensor, "n"], behind: float) -> Bool[Tensor, "n"]:
    """Whether no other point lies more than `behind` before it; places as shares of the picture."""
    cells = (places * GRID_PX).long().clamp(0, GRID_PX - 1)
    flat = cells[:, 1] * GRID_PX + cells[:, 0]
    nearest = torch.full((GRID_PX * GRID_PX,), torch.inf).scatter_reduce(0, flat, depths, "amin")
    return depths <= nearest[flat] + behind


def _spread(body: Body, colours: Float[np.ndarray, "n 3"], weights: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 3"]:
    """Smooth colours over the whole skin: those seen stay, the others come from the mirror side and the neighbours."""
    mirror = _mirror_vertices()
    own, other = weights[:, None], MIRROR_WEIGHT * weights[mirror][:, None]
    trusted = (own + other)[:, 0] + 1e-5
    mean = (own * colours).sum(0) / own.sum().clip(1e-6)
    wanted = own * colours + other * colours[mirror] + 1e-5 * mean
    system = (sparse.diags(trusted) + SMOOTHNESS * _laplacian()).tocsc()
    solved: np.ndarray = np.asarray(spsolve(system, wanted))
    return solved.clip(0, 1).astype(np.float32)


@cache
def _mirror_vertices() -> Int[np.ndarray, "n"]:
    """For every vertex of the built-in mouse the nearest one to its mirror image."""
    vertices = procedural_mouse().vertices
    return np.asarray(KDTree(vertices).query(vertices * [1, -1, 1])[1])


@cache
def _laplacian() -> sparse.csr_matrix:
    """Combinatorial Laplacian of the built-in mouse's edges."""
    body = procedural_mouse()
    a, b = body.faces.ravel(), np.roll(body.faces, 1, axis=1).ravel()
    count = len(body.vertices)
    links = sparse.csr_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(count, count))
    links.data[:] = 1.0
    return sparse.csr_matrix(sparse.diags(np.asarray(links.sum(1)).ravel()) - links)
