from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import normal, random_gaussians, random_similarity, seeded
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry import Gaussians, Similarity
from mouselift.geometry.sh import eval_sh
from mouselift.geometry.transforms import quat_to_rotmat

SEEDS = st.integers(0, 2**31)


def covariances(gaussians: Gaussians) -> Tensor:
    axes = quat_to_rotmat(gaussians.quats) * gaussians.scales[..., None, :]
    return axes @ axes.mT


def assert_same(a: Gaussians, b: Gaussians) -> None:
    """Equal up to the sign of the quaternions."""
    for field in fields(a):
        if field.name != "quats":
            torch.testing.assert_close(getattr(a, field.name), getattr(b, field.name), rtol=0, atol=1e-11)
    torch.testing.assert_close(quat_to_rotmat(a.quats), quat_to_rotmat(b.quats), rtol=0, atol=1e-12)


@given(seed=SEEDS, degree=st.integers(0, 3))
def test_a_similarity_and_its_inverse_change_nothing(seed: int, degree: int) -> None:
    generator = seeded(seed)
    gaussians, move = random_gaussians(generator, 2, degree=degree), random_similarity(generator)
    assert_same(gaussians.transformed(move).transformed(move.inverse()), gaussians)


@given(seed=SEEDS)
def test_transforming_is_an_action_of_the_group(seed: int) -> None:
    generator = seeded(seed)
    gaussians = random_gaussians(generator, degree=2)
    a, b = random_similarity(generator), random_similarity(generator)
    assert_same(gaussians.transformed(b).transformed(a), gaussians.transformed(a @ b))
    assert_same(gaussians.transformed(Similarity.identity()), gaussians)


@given(seed=SEEDS)
def test_ellipsoids_and_appearance_move_with_the_frame(seed: int) -> None:
    generator = seeded(seed)
    gaussians, move = random_gaussians(generator, 2, degree=3), random_similarity(generator)
    gaussians = replace(gaussians, sh=0.01 * gaussians.sh)  # so small that no colour is clamped
    moved = gaussians.transformed(move)
    torch.testing.assert_close(moved.means, move.apply(gaussians.means))
    expected = move.scale**2 * move.rotation @ covariances(gaussians) @ move.rotation.mT
    torch.testing.assert_close(covariances(moved), expected, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(moved.quats.norm(dim=-1), torch.ones_like(moved.opacities))
    assert torch.equal(moved.opacities, gaussians.opacities)
    eye = normal(generator, 3)
    before = eval_sh(gaussians.sh, F.normalize(gaussians.means - eye, dim=-1))
    after = eval_sh(moved.sh, F.normalize(moved.means - move.apply(eye), dim=-1))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


def test_transformed_keeps_the_gaussians_dtype(generator: torch.Generator) -> None:
    moved = random_gaussians(generator, degree=1).to(torch.float32).transformed(random_similarity(generator))
    assert {getattr(moved, field.name).dtype for field in fields(moved)} == {torch.float32}


def test_select_and_pruned(generator: torch.Generator) -> None:
    gaussians = replace(
        random_gaussians(generator, count=4, degree=1),
        opacities=torch.tensor([0.5, 0.04, 0.039, 1.0], dtype=torch.float64),
        means=torch.tensor([[0, 0, 0], [0.9, -0.9, 0.9], [0, 0, 0], [0, -0.92, 0]], dtype=torch.float64),
    )
    for found, kept in (
        (gaussians.pruned(0.04), [0, 1, 3]),
        (gaussians.pruned(0.04, box=0.91), [0, 1]),
        (gaussians.select(torch.tensor([False, True, True, False])), [1, 2]),
    ):
        assert len(found) == len(kept)
        for field in fields(found):
            assert torch.equal(getattr(found, field.name), getattr(gaussians, field.name)[kept])
    assert len(gaussians.pruned(2.0)) == 0


def test_cat_puts_sets_side_by_side(generator: torch.Generator) -> None:
    a, b = (random_gaussians(generator, 2, count=count, degree=1) for count in (3, 5))
    joined = Gaussians.cat([a, b])
    assert (len(joined), joined.batch_shape) == (8, (2,))
    first = torch.arange(8) < 3
    assert_same(joined[1].select(first), a[1])
    assert_same(joined[1].select(~first), b[1])


def test_indexing_is_for_batches_only(generator: torch.Generator) -> None:
    gaussians = random_gaussians(generator, 2, 3, degree=1)
    assert_same(gaussians[1][2], gaussians[1, 2])
    assert gaussians[..., 0].batch_shape == (2,)
    with pytest.raises(IndexError):
        gaussians[0, 0, 0]
    with pytest.raises(IndexError, match="no batch dimension; select"):
        gaussians[0, 0][0]
    with pytest.raises(ValueError, match=r"one scene, found batch shape \(2, 3\)"):
        gaussians.select(torch.ones(7, dtype=torch.bool))


def test_rgb_is_the_view_independent_colour(generator: torch.Generator) -> None:
    gaussians = random_gaussians(generator, degree=2)
    torch.testing.assert_close(gaussians.rgb, 0.5 + 0.28209479177387814 * gaussians.sh[:, 0])


def test_detach_cuts_every_gradient(generator: torch.Generator) -> None:
    gaussians = random_gaussians(generator)
    for field in fields(gaussians):
        getattr(gaussians, field.name).requires_grad_()
    assert not any(getattr(gaussians.detach(), field.name).requires_grad for field in fields(gaussians))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("means", (6, 3)), ("quats", (7, 3)), ("scales", (7, 1)), ("sh", (6, 1, 3)), ("opacities", (7, 1))],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_refuses_fields_of_other_shapes(name: str, shape: tuple[int, ...], generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=r"Gaussians: \w+ is \(\d, .* expected \(\d,"):
        replace(random_gaussians(generator), **{name: torch.ones(shape)})


def test_refuses_a_number_of_bases_that_no_degree_has(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="found 5"):
        replace(random_gaussians(generator), sh=torch.zeros(7, 5, 3))
