import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import BATCH_SHAPES, normal, random_quats, random_rotation, seeded, uniform
from scipy.spatial.transform import Rotation
from torch.nn import functional as F

from mouselift.geometry.transforms import (
    apply_rigid,
    check_rotation,
    invert_rigid,
    look_at,
    quat_multiply,
    quat_to_rotmat,
    rigid,
    rotmat_to_quat,
)

SEEDS = st.integers(0, 2**31)
Z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@given(seed=SEEDS)
def test_quat_to_rotmat_agrees_with_scipy(seed: int) -> None:
    quats = random_quats(seeded(seed), 5)
    expected = Rotation.from_quat(quats.numpy(), scalar_first=True).as_matrix()
    torch.testing.assert_close(quat_to_rotmat(3.7 * quats), torch.from_numpy(expected), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("perturbation", [0.0, 1e-12, 1e-8, 1e-4, 1e-2])
@pytest.mark.parametrize(
    "near",
    [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 1, 0, 0), (0, 1, 1, 0), (1, 1, 1, 1), (1, -1, 1, -1)],
)
def test_quaternion_round_trip_at_every_shepperd_branch(
    near: tuple[int, ...], perturbation: float, dtype: torch.dtype
) -> None:
    start = F.normalize(torch.tensor(near, dtype=torch.float64), dim=-1)
    quats = F.normalize(start + perturbation * normal(seeded(1), 64, 4), dim=-1).to(dtype)
    again = rotmat_to_quat(quat_to_rotmat(quats))
    assert (again[:, 0] >= 0).all()
    # q and -q are one rotation: the difference to the nearer of the two
    difference = torch.minimum((again - quats).abs().amax(-1), (again + quats).abs().amax(-1))
    assert difference.max() < 8 * torch.finfo(dtype).eps


@given(seed=SEEDS)
def test_rotmat_round_trip(seed: int) -> None:
    rotation = random_rotation(seeded(seed), 3, 2)
    torch.testing.assert_close(quat_to_rotmat(rotmat_to_quat(rotation)), rotation, rtol=0, atol=1e-14)


@given(seed=SEEDS)
def test_quat_multiply_composes_rotations(seed: int) -> None:
    generator = seeded(seed)
    a, b = random_quats(generator, 4), random_quats(generator, 4)
    torch.testing.assert_close(
        quat_to_rotmat(quat_multiply(a, b)), quat_to_rotmat(a) @ quat_to_rotmat(b), rtol=0, atol=1e-14
    )
    torch.testing.assert_close(quat_multiply(a[0], b), quat_multiply(a[:1].expand(4, 4), b))


@pytest.mark.parametrize("batch", BATCH_SHAPES)
def test_invert_rigid_undoes_apply_rigid(batch: tuple[int, ...], generator: torch.Generator) -> None:
    matrix = rigid(random_rotation(generator, *batch), 300 * normal(generator, *batch, 3))
    points = 100 * normal(generator, *batch, 6, 3)
    torch.testing.assert_close(
        apply_rigid(invert_rigid(matrix), apply_rigid(matrix, points)), points, rtol=0, atol=1e-11
    )
    identity = torch.eye(4, dtype=torch.float64).expand_as(matrix)
    torch.testing.assert_close(invert_rigid(matrix) @ matrix, identity, rtol=0, atol=1e-11)


def test_apply_rigid_broadcasts_shared_points(generator: torch.Generator) -> None:
    matrices = rigid(random_rotation(generator, 2, 3), normal(generator, 2, 3, 3))
    points = normal(generator, 5, 3)
    mapped = apply_rigid(matrices, points)
    assert mapped.shape == (2, 3, 5, 3)
    torch.testing.assert_close(mapped[1, 2], apply_rigid(matrices[1, 2], points))


@given(seed=SEEDS)
def test_look_at_puts_the_target_on_the_optical_axis(seed: int) -> None:
    generator = seeded(seed)
    eye, target = 300 * normal(generator, 4, 3), 50 * normal(generator, 4, 3)
    w2c = look_at(eye, target)
    check_rotation(w2c[..., :3, :3], "look_at")
    on_axis = torch.zeros_like(eye)
    on_axis[:, 2] = (target - eye).norm(dim=-1)
    torch.testing.assert_close(apply_rigid(w2c, target[:, None])[:, 0], on_axis, rtol=0, atol=1e-10)
    torch.testing.assert_close(apply_rigid(w2c, eye[:, None])[:, 0], torch.zeros_like(eye), rtol=0, atol=1e-10)
    up_in_camera = w2c[..., :3, :3] @ Z
    assert (up_in_camera[:, 0].abs() < 1e-12).all()  # no roll
    assert (up_in_camera[:, 1] < 0).all()  # +Y is down


def test_look_at_straight_down_has_plus_y_up() -> None:
    eye, target = 3 * Z, torch.zeros(3, dtype=torch.float64)
    expected = torch.tensor([[1, 0, 0], [0, -1, 0], [0, 0, -1]], dtype=torch.float64)  # right, down, forward
    torch.testing.assert_close(look_at(eye, target)[:3, :3], expected)
    expected = torch.tensor([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(look_at(-eye, target)[:3, :3], expected)


def test_look_at_along_a_wanted_up_of_plus_y_has_plus_z_up() -> None:
    y = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    w2c = look_at(-2 * y, torch.zeros_like(y), up=y)
    torch.testing.assert_close(w2c[1, :3], -Z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_look_at_stays_a_rotation_close_to_the_pole(dtype: torch.dtype) -> None:
    tilt = torch.logspace(-12, -1, 50, dtype=torch.float64)
    eye = 300 * torch.stack([tilt.sin() * 0.6, tilt.sin() * 0.8, tilt.cos()], dim=-1)
    w2c = look_at(eye.to(dtype), torch.zeros(3, dtype=dtype))
    rotation = w2c[:, :3, :3].double()
    deviation = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().max()
    assert deviation < 8 * torch.finfo(dtype).eps


def test_look_at_broadcasts_one_eye_over_targets(generator: torch.Generator) -> None:
    targets = normal(generator, 5, 3)
    w2c = look_at(4 * Z, targets)
    assert w2c.shape == (5, 4, 4)
    torch.testing.assert_close(w2c[3], look_at(4 * Z, targets[3]))


def test_check_rotation_accepts_what_a_text_file_rounds(generator: torch.Generator) -> None:
    check_rotation((random_rotation(generator, 20) * 1e4).round() / 1e4, "camera")


def test_check_rotation_names_the_bad_one(generator: torch.Generator) -> None:
    good = random_rotation(generator, 4)
    mirrored = good.clone()
    mirrored[2, 1] *= -1
    with pytest.raises(ValueError, match=r"camera 2: det\(R\) = -1, a mirrored pose"):
        check_rotation(mirrored, "camera")
    stretched = good.clone()
    stretched[3] *= 1.01
    with pytest.raises(ValueError, match=r"camera 3: the rotation is not orthonormal .* 0\.02"):
        check_rotation(stretched, "camera")
    missing = good.clone()
    missing[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        check_rotation(missing, "camera")


def test_the_zero_quaternion_is_the_identity() -> None:
    torch.testing.assert_close(quat_to_rotmat(torch.zeros(4)), torch.eye(3))


@given(seed=SEEDS)
def test_rotation_angle_survives_near_half_turns(seed: int) -> None:
    generator = seeded(seed)
    axis = F.normalize(normal(generator, 3), dim=-1)
    angle = math.pi - uniform(generator, low=0.0, high=1e-6)
    quat = torch.cat([(angle / 2).cos()[None], (angle / 2).sin() * axis])
    again = rotmat_to_quat(quat_to_rotmat(quat))
    torch.testing.assert_close(2 * again[0].acos(), angle, rtol=0, atol=1e-13)
