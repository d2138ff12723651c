"""Rigs: named sets of virtual cameras around the scene origin, world +Z up."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.geometry.cameras import Cameras
from mouselift.geometry.transforms import look_at

RIG_RADIUS = 2.7  # scene units; utils_folder/opencv_cameras.json of FaceLift
FACELIFT_FOV_DEG = 50.0  # fx = fy = 548.9938 at 512 px
FACELIFT_AZIMUTHS_DEG = {
    "front": 0.0,
    "front_right": -45.0,
    "right": -90.0,
    "back": 180.0,
    "left": 90.0,
    "front_left": 45.0,
}
FACELIFT_FRONT_DEG = -90.0  # FaceLift's subject faces -y: the front camera stands at (0, -2.7, 0)

MOUSE_RIG_ELEVATION_DEG = 20.0  # a mouse stands on the ground: from slightly above it shows its back as well
MOUSE_FOV_DEG = 30.0  # at 2.7 it frames 1.45 scene units, which hold 95 % of mice (167 mm) with the tail
FLIGHT_ELEVATION_DEG, FLIGHT_RISE_DEG = 25.0, 20.0  # of a fly-around: from nearly level to well above
FLIGHT_APPROACH = 0.25  # of the distance, halfway round
LEVEL_COSINE = 0.966  # of 15 degrees


def pinhole_K(fov_deg: float, size_px: int) -> Float[Tensor, "3 3"]:
    """Intrinsics of a square image with a central principal point."""
    focal = size_px / (2 * math.tan(math.radians(fov_deg) / 2))
    return torch.tensor([[focal, 0, size_px / 2], [0, focal, size_px / 2], [0, 0, 1]])


def orbit(
    azimuths_deg: Sequence[float],
    elevations_deg: Sequence[float] | float = 0.0,
    *,
    radius: Sequence[float] | float = RIG_RADIUS,
    fov_deg: float = FACELIFT_FOV_DEG,
    size_px: int = 512,
    names: Sequence[str] = (),
) -> Cameras:
    """Cameras on a sphere that look at the origin.

    Args:
        azimuths_deg: Counter-clockwise about +Z, 0 = the +X side.
        elevations_deg: Above the horizontal plane; one for all, or one each.
        radius: Distance from the origin, scene units; one for all, or one each.
        fov_deg: Field of view, both ways.
        size_px: Width and height of the images.
        names: One for each camera, or none.
    """
    azimuths = torch.deg2rad(torch.tensor(azimuths_deg, dtype=torch.float64))
    elevations = torch.deg2rad(torch.tensor(elevations_deg, dtype=torch.float64)).expand_as(azimuths)
    directions = torch.stack(
        [elevations.cos() * azimuths.cos(), elevations.cos() * azimuths.sin(), elevations.sin()], dim=-1
    )
    eyes = torch.tensor(radius, dtype=torch.float64)[..., None] * directions
    w2c = look_at(eyes, torch.zeros_like(eyes)).float()
    K = pinhole_K(fov_deg, size_px).expand(len(azimuths_deg), 3, 3)
    return Cameras(K=K, w2c=w2c, width=size_px, height=size_px, names=tuple(names))


def facelift_rig(
    front_azimuth_deg: float = FACELIFT_FRONT_DEG,
    *,
    elevation_deg: float = 0.0,
    fov_deg: float = FACELIFT_FOV_DEG,
    size_px: int = 512,
) -> Cameras:
    """FaceLift's six views (front, front_right, right, back, left, front_left) around a front camera."""
    return orbit(
        [front_azimuth_deg + offset for offset in FACELIFT_AZIMUTHS_DEG.values()],
        elevation_deg,
        fov_deg=fov_deg,
        size_px=size_px,
        names=tuple(FACELIFT_AZIMUTHS_DEG),
    )


def mouse_rig(front_azimuth_deg: float = FACELIFT_FRONT_DEG, *, size_px: int) -> Cameras:
    """FaceLift's six azimuths, a little above the ground and closer: the rig of MouseLift's own weights."""
    return facelift_rig(
        front_azimuth_deg, elevation_deg=MOUSE_RIG_ELEVATION_DEG, fov_deg=MOUSE_FOV_DEG, size_px=size_px
    )


def turntable(
    num_views: int,
    *,
    start_azimuth_deg: float = FACELIFT_FRONT_DEG,
    elevation_deg: float = 0.0,
    radius: float = RIG_RADIUS,
    fov_deg: float = FACELIFT_FOV_DEG,
    size_px: int = 512,
) -> Cameras:
    """A full circle of equally spaced views, counter-clockwise, the end not repeated."""
    azimuths = [start_azimuth_deg + 360.0 * i / num_views for i in range(num_views)]
    return orbit(azimuths, elevation_deg, radius=radius, fov_deg=fov_deg, size_px=size_px)


def fly_around(
    num_views: int,
    *,
    start_azimuth_deg: float = FACELIFT_FRONT_DEG,
    radius: float = RIG_RADIUS,
    fov_deg: float = FACELIFT_FOV_DEG,
    size_px: int = 512,
) -> Cameras:
    """A circle that rises and dives twice and comes closer once, counter-clockwise, the end not repeated."""
    phases = [2 * math.pi * i / num_views for i in range(num_views)]
    return orbit(
        [start_azimuth_deg + math.degrees(phase) for phase in phases],
        [FLIGHT_ELEVATION_DEG + FLIGHT_RISE_DEG * math.sin(2 * phase) for phase in phases],
        radius=[radius * (1 - FLIGHT_APPROACH * (1 - math.cos(phase)) / 2) for phase in phases],
        fov_deg=fov_deg,
        size_px=size_px,
    )


def sphere(
    num_views: int, *, radius: float = RIG_RADIUS, fov_deg: float = FACELIFT_FOV_DEG, size_px: int = 512
) -> Cameras:
    """Views spread evenly over the whole sphere (a Fibonacci lattice)."""
    golden_deg = 180.0 * (3.0 - math.sqrt(5.0))
    heights = [1 - (2 * i + 1) / num_views for i in range(num_views)]
    return orbit(
        [golden_deg * i for i in range(num_views)],
        [math.degrees(math.asin(h)) for h in heights],
        radius=radius,
        fov_deg=fov_deg,
        size_px=size_px,
    )


def azimuth_elevation_deg(cameras: Cameras) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Directions of cameras from the origin: azimuth counter-clockwise from +X, elevation above the plane."""
    x, y, z = cameras.centres.unbind(-1)
    return torch.rad2deg(torch.atan2(y, x)), torch.rad2deg(torch.atan2(z, torch.hypot(x, y)))


def facing_azimuth_deg(cameras: Cameras) -> Float[Tensor, "*batch"]:
    """The azimuth from which cameras look, read from the horizontal axis of their images.

    For a camera without roll that looks at the vertical axis it is the azimuth of where it stands; unlike that, it
    stays defined and steady for a camera straight above the subject.
    """
    right = cameras.c2w[..., :3, 0]
    return torch.rad2deg(torch.atan2(right[..., 1], right[..., 0])) - 90


def turned_to(cameras: Cameras, azimuth_deg: Float[Tensor, "*#batch"]) -> Cameras:
    """The same cameras in a world turned about +Z, so that `azimuth_deg` becomes 0 (the +X side)."""
    angle = torch.deg2rad(azimuth_deg)
    world_from_turned = torch.zeros(*angle.shape, 4, 4, dtype=angle.dtype, device=angle.device)
    world_from_turned[..., 0, 0] = world_from_turned[..., 1, 1] = angle.cos()
    world_from_turned[..., 1, 0], world_from_turned[..., 0, 1] = angle.sin(), -angle.sin()
    world_from_turned[..., 2, 2] = world_from_turned[..., 3, 3] = 1
    return replace(cameras, w2c=cameras.w2c @ world_from_turned)


def rig_up(cameras: Cameras) -> Float[Tensor, "3"]:
    """Which way is up in the world of a real rig, judged by its cameras, which are mounted level as a rule.

    Up is the direction most nearly perpendicular to the horizontal axes of all images; their vertical axes give its
    sign. Cameras that look down do not bias it, cameras with roll do.

    Args:
        cameras: (V,) at least two that do not all look the same way.

    Returns:
        Unit vector, float64; exactly +Z when the estimate is within 15 degrees of it, which is what was meant then.
    """
    axes = cameras.c2w.double()
    right, down = axes[..., :3, 0], axes[..., :3, 1]
    eigen = cast(tuple[Tensor, Tensor], torch.linalg.eigh(right.mT @ right))  # pyright: ignore[reportUnknownMemberType]
    up = eigen[1][:, 0]  # of the smallest eigenvalue
    up = up * torch.sign(-(down @ up).sum())
    return up.new_tensor([0.0, 0.0, 1.0]) if float(up[2]) > LEVEL_COSINE else up


def turn_to_z_up(up: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that takes `up` to +Z."""
    target = up.new_tensor([0.0, 0.0, 1.0])
    axis, cosine = torch.cross(up, target, dim=-1), float(up @ target)
    if cosine < -1 + 1e-9:
        return torch.diag(up.new_tensor([1.0, -1.0, -1.0]))
    x, y, z = (float(value) for value in axis)
    cross = up.new_tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return torch.eye(3, dtype=up.dtype) + cross + cross @ cross / (1 + cosine)
