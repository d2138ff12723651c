"""Analytic against numeric gradients, float64."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from samples import BATCH_SHAPES, normal, random_cameras, random_gaussians, random_points, random_similarity
from torch import Tensor
from torch.autograd import gradcheck

from mouselift.geometry import Cameras, camera_rays, look_at, nearest_point_rays, plucker_rays
from mouselift.geometry.transforms import (
    apply_rigid,
    invert_rigid,
    quat_multiply,
    quat_to_rotmat,
    rigid,
    rotmat_to_quat,
)

batches = pytest.mark.parametrize("batch", BATCH_SHAPES)


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


@batches
def test_quaternions(batch: tuple[int, ...], generator: torch.Generator) -> None:
    a, b = leaf(normal(generator, *batch, 4)), leaf(normal(generator, *batch, 4))
    assert gradcheck(quat_to_rotmat, (a,))
    assert gradcheck(quat_multiply, (a, b))
    assert gradcheck(lambda q: rotmat_to_quat(quat_to_rotmat(q)), (a,))


@batches
def test_rigid_transforms(batch: tuple[int, ...], generator: torch.Generator) -> None:
    quats, shift = leaf(normal(generator, *batch, 4)), leaf(normal(generator, *batch, 3))
    points = leaf(normal(generator, *batch, 2, 3))

    def there(quats: Tensor, shift: Tensor, points: Tensor) -> Tensor:
        return apply_rigid(invert_rigid(rigid(quat_to_rotmat(quats), shift)), points)

    assert gradcheck(there, (quats, shift, points))


@batches
def test_look_at(batch: tuple[int, ...], generator: torch.Generator) -> None:
    assert gradcheck(look_at, (leaf(normal(generator, *batch, 3)), leaf(normal(generator, *batch, 3))))


def moved_cameras(cameras: Cameras) -> tuple[Callable[..., Cameras], tuple[Tensor, ...]]:
    """Cameras as a function of quaternion, translation and (fx, skew, cx, fy, cy), and its arguments."""

    def build(quats: Tensor, shift: Tensor, intrinsics: Tensor) -> Cameras:
        fx, skew, cx, fy, cy = intrinsics.unbind(-1)
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        K = torch.stack([fx, skew, cx, zero, fy, cy, zero, zero, one], dim=-1).unflatten(-1, (3, 3))
        return replace(cameras, K=K, w2c=rigid(quat_to_rotmat(quats), shift))

    K = cameras.K
    intrinsics = torch.stack([K[..., 0, 0], K[..., 0, 1], K[..., 0, 2], K[..., 1, 1], K[..., 1, 2]], dim=-1)
    at = (leaf(rotmat_to_quat(cameras.w2c[..., :3, :3])), leaf(cameras.w2c[..., :3, 3]), leaf(intrinsics))
    return build, at


@batches
@pytest.mark.parametrize("distorted", [False, True])
def test_project_and_unproject(batch: tuple[int, ...], distorted: bool, generator: torch.Generator) -> None:
    cameras = random_cameras(generator, *batch, distorted=distorted)
    points = random_points(generator, *batch, 2)
    depth = cameras.to_camera(points)[..., 2]
    build, at = moved_cameras(cameras)
    assert gradcheck(lambda *xs: build(*xs[:3]).project(xs[3]), (*at, leaf(points)))
    pixels = leaf(cameras.project(points))
    assert gradcheck(lambda *xs: build(*xs[:3]).unproject(xs[3], xs[4]), (*at, pixels, leaf(depth)))


def test_project_to_distortion(generator: torch.Generator) -> None:
    cameras, points = random_cameras(generator, 2, distorted=True), random_points(generator, 3)
    assert cameras.distortion is not None
    assert gradcheck(lambda d: replace(cameras, distortion=d).project(points), (leaf(cameras.distortion),))


@batches
@pytest.mark.parametrize("encode", [lambda c: camera_rays(c)[1], plucker_rays, nearest_point_rays])
def test_rays(batch: tuple[int, ...], encode: Callable[[Cameras], Tensor], generator: torch.Generator) -> None:
    build, at = moved_cameras(random_cameras(generator, *batch).resized(3, 2))
    assert gradcheck(lambda *xs: encode(build(*xs)), at)


def test_camera_moves(generator: torch.Generator) -> None:
    build, at = moved_cameras(random_cameras(generator, 2))
    move, reference = random_similarity(generator), random_cameras(generator, 1)
    assert gradcheck(lambda *xs: build(*xs).transformed(move).relative_to(reference).w2c, at)
    assert gradcheck(lambda *xs: build(*xs).cropped(3, -2, 9, 8).resized(4, 5).K, at)


def test_moved_gaussians(generator: torch.Generator) -> None:
    gaussians, move = random_gaussians(generator, count=2, degree=1), random_similarity(generator)

    def moved(means: Tensor, quats: Tensor, scales: Tensor, sh: Tensor) -> tuple[Tensor, ...]:
        new = replace(gaussians, means=means, quats=quats, scales=scales, sh=sh).transformed(move)
        return new.means, new.quats, new.scales, new.sh

    leaves = tuple(leaf(t) for t in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.sh))
    assert gradcheck(moved, leaves)
