"""Fit the mouse's body to one framed picture: hypotheses of the pose estimator, refined on the silhouette."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.body.code import SeenPose, decode
from mouselift.body.mesh import Region, procedural_mouse
from mouselift.body.pose import BodyTensors, posed_vertices
from mouselift.geometry import Cameras, Gaussians, Views
from mouselift.geometry.picture_frame import to_picture_frame
from mouselift.models.pose_estimator import PoseEstimator
from mouselift.render import render

HYPOTHESES = 24
SAMPLER_STEPS = 6
AVERAGED = 8  # of the hypotheses, those with the best silhouettes; their mean errs less than any one of them
SCORE_SIZE_PX = 64
FIT_SIZE_PX = 96
FIT_STEPS = 60
FIT_RATE = 0.04  # of Adam, in standard deviations of the code
STAY_WEIGHT = 0.002  # of the squared distance from the hypothesis, in standard deviations
SPACING_MM = {Region.TAIL: 1.6, Region.EAR: 1.8, Region.FOOT: 1.6, Region.NOSE: 1.6}  # of the points; 2.6 elsewhere
RADIUS_SHARE = 0.48  # of a point's Gaussian, as a share of that spacing


@dataclass(frozen=True, kw_only=True)
class FittedBody:
    """A body that explains a picture.

    Attributes:
        seen: The pose in the frame of the picture.
        code: The same as a vector.
        silhouette_iou: Agreement of its silhouette with the mask.
    """

    seen: SeenPose
    code: Float[Tensor, "99"]
    silhouette_iou: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Points:
    """Points that stand for the skin when only its outline matters."""

    body: BodyTensors
    radius_mm: Float[Tensor, "n"]
    in_tail: Float[Tensor, "n"]


@cache
def _outline_points() -> _Points:
    """One vertex of the built-in mouse in every cell of a grid, finer where the body is thin."""
    body = procedural_mouse()
    spacing = np.array([SPACING_MM.get(region, 2.6) for region in Region])[body.regions]
    cells = np.floor(body.vertices / spacing[:, None]).astype(np.int64)
    _, first = np.unique(np.concatenate([cells, body.regions[:, None]], axis=1), axis=0, return_index=True)
    chosen = torch.from_numpy(np.sort(first))
    return _Points(
        body=BodyTensors.of(body, chosen),
        radius_mm=torch.from_numpy(RADIUS_SHARE * spacing).float()[chosen],
        in_tail=torch.from_numpy(body.regions == Region.TAIL).float()[chosen],
    )


def fit_body(
    view: Views,
    estimator: PoseEstimator,
    *,
    generator: torch.Generator,
    up: Float[Tensor, "3"] | None = None,
    steps: int = FIT_STEPS,
) -> FittedBody:
    """Find the pose that a picture shows.

    Args:
        view: (1,), framed on the animal, with the camera that took it, the subject at the scene's origin.
        estimator: Draws the hypotheses.
        generator: Source of their noise, on the CPU.
        up: Unit vector against gravity in the frame of the picture, where the camera's elevation is known.
        steps: Of Adam on the silhouette, from the mean of the best hypotheses.
    """
    codes = estimator.sample(view, HYPOTHESES, steps=SAMPLER_STEPS, generator=generator, up=up).to("cpu")
    view = view.to("cpu")
    camera = picture_camera(view.cameras)
    with torch.no_grad():
        likely = codes[_silhouette_ious(codes, view, camera, SCORE_SIZE_PX).topk(AVERAGED).indices]
    code = _follow_silhouette(likely.mean(0, keepdim=True), view, camera, estimator.code_std.to("cpu"), steps)
    with torch.no_grad():
        iou = _silhouette_ious(code, view, camera, FIT_SIZE_PX)
    return FittedBody(seen=decode(code[0]), code=code[0], silhouette_iou=float(iou[0]))


def tail_alpha(fitted: FittedBody, camera: Cameras) -> Float[Tensor, "1 h w"]:
    """Where the fitted body shows its tail and nothing else, as its own camera (1,) sees it: 0 to 1."""
    with torch.no_grad():
        whole, body = _silhouettes(fitted.code[None], picture_camera(camera), camera.width)
    return (whole - body)[0].clamp(0, 1)


def picture_camera(camera: Cameras) -> Cameras:
    """The same camera in the frame of its picture, as far away in units of the picture's half-width as it is."""
    return camera.transformed(to_picture_frame(camera))


def _silhouettes(
    codes: Float[Tensor, "k 99"], camera: Cameras, size_px: int
) -> tuple[Float[Tensor, "k 1 h w"], Float[Tensor, "k 1 h w"]]:
    """Rendered alpha of the bodies, with and without their tails."""
    points = _outline_points()
    pose = decode(codes).pose
    vertices, _ = posed_vertices(points.body, pose)
    count, number = vertices.shape[:2]
    radius = points.radius_mm * pose.unit[:, None]
    gaussians = Gaussians(
        means=vertices,
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, number, 4),
        scales=radius[..., None].expand(-1, -1, 3),
        opacities=torch.full((count, number), 0.9),
        sh=points.in_tail[:, None, None].expand(count, number, 1, 3),
    )
    small = camera.resized(size_px, size_px)
    cameras = Cameras.cat([small] * count).reshape(count, 1)
    whole = render(gaussians, cameras, torch.zeros(3)).alpha[:, 0]
    bodies = Gaussians(
        means=gaussians.means,
        quats=gaussians.quats,
        scales=gaussians.scales,
        opacities=gaussians.opacities * (1 - points.in_tail),
        sh=gaussians.sh,
    )
    return whole, render(bodies, cameras, torch.zeros(3)).alpha[:, 0]


def _silhouette_ious(codes: Float[Tensor, "k 99"], view: Views, camera: Cameras, size_px: int) -> Float[Tensor, "k"]:
    """Soft agreement with the mask; a tail that the mask lacks costs nothing."""
    whole, body = _silhouettes(codes, camera, size_px)
    mask = view.resized(size_px, size_px).masks.to(whole)
    covered = (mask * whole).sum((1, 2, 3))
    return covered / (mask.sum() + ((1 - mask) * body).sum((1, 2, 3))).clamp_min(1e-6)


def _follow_silhouette(
    codes: Float[Tensor, "k 99"], view: Views, camera: Cameras, std: Float[Tensor, "99"], steps: int
) -> Float[Tensor, "k 99"]:
    mask = view.resized(FIT_SIZE_PX, FIT_SIZE_PX).masks.to(codes)
    area = mask.sum()
    moved = torch.zeros_like(codes, requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=FIT_RATE, betas=(0.9, 0.95))
    with torch.enable_grad():
        for _ in range(steps):
            whole, body = _silhouettes(codes + moved * std, camera, FIT_SIZE_PX)
            missed = (mask * (1 - whole)).square().sum((1, 2, 3)) / area
            beyond = ((1 - mask) * body).square().sum((1, 2, 3)) / area
            loss = (missed + beyond + STAY_WEIGHT * moved.square().sum(-1)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return (codes + moved * std).detach()
