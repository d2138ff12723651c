import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import BATCH_SHAPES, normal, random_similarity, seeded

from mouselift.geometry import Similarity

SEEDS = st.integers(0, 2**31)


def assert_same(a: Similarity, b: Similarity) -> None:
    torch.testing.assert_close(a.matrix(), b.matrix(), rtol=1e-12, atol=1e-11)


@given(seed=SEEDS)
def test_group_axioms(seed: int) -> None:
    generator = seeded(seed)
    a, b, c = (random_similarity(generator) for _ in range(3))
    identity = Similarity.identity(torch.float64)
    assert_same((a @ b) @ c, a @ (b @ c))
    assert_same(identity @ a, a)
    assert_same(a @ identity, a)
    assert_same(a.inverse() @ a, identity)
    assert_same(a @ a.inverse(), identity)
    assert_same((a @ b).inverse(), b.inverse() @ a.inverse())


@given(seed=SEEDS)
def test_composition_is_application_one_after_the_other(seed: int) -> None:
    generator = seeded(seed)
    a, b, points = random_similarity(generator), random_similarity(generator), normal(generator, 9, 3)
    torch.testing.assert_close((a @ b).apply(points), a.apply(b.apply(points)), rtol=1e-12, atol=1e-11)
    torch.testing.assert_close((a @ b).matrix(), a.matrix() @ b.matrix(), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("batch", BATCH_SHAPES)
def test_apply_is_the_matrix(batch: tuple[int, ...], generator: torch.Generator) -> None:
    similarity, points = random_similarity(generator), normal(generator, *batch, 3)
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
    expected = (homogeneous @ similarity.matrix().mT)[..., :3]
    torch.testing.assert_close(similarity.apply(points), expected)


@given(seed=SEEDS)
def test_matrix_round_trip(seed: int) -> None:
    similarity = random_similarity(seeded(seed))
    again = Similarity.from_matrix(similarity.matrix())
    torch.testing.assert_close(again.scale, similarity.scale)
    torch.testing.assert_close(again.rotation, similarity.rotation)
    torch.testing.assert_close(again.translation, similarity.translation)


def test_millimetres_to_scene_and_back_in_float32() -> None:
    scene_from_world = Similarity(
        scale=torch.tensor(2.7 / 312), rotation=torch.eye(3), translation=torch.tensor([0.1, -0.2, 0.3])
    )
    points = torch.tensor([[40.0, -15.0, 60.0], [148.0, 90.0, 5.0]])
    again = scene_from_world.inverse().apply(scene_from_world.apply(points))
    torch.testing.assert_close(again, points, rtol=0, atol=1e-4)  # 0.1 micrometre


def test_refuses_what_is_no_similarity(generator: torch.Generator) -> None:
    matrix = random_similarity(generator).matrix()
    mirrored = matrix.clone()
    mirrored[0, :3] *= -1
    with pytest.raises(ValueError, match="mirrored"):
        Similarity.from_matrix(mirrored)
    stretched = matrix.clone()
    stretched[:3, 0] *= 1.1
    with pytest.raises(ValueError, match="not orthonormal"):
        Similarity.from_matrix(stretched)
    with pytest.raises(ValueError, match="transposed"):
        Similarity.from_matrix(matrix.mT.contiguous())


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_scale_that_is_not_positive_and_finite(scale: float) -> None:
    with pytest.raises(ValueError, match="positive, finite scale"):
        Similarity(scale=torch.tensor(scale), rotation=torch.eye(3), translation=torch.zeros(3))


def test_refuses_a_translation_that_is_not_finite() -> None:
    with pytest.raises(ValueError, match="finite translation"):
        Similarity(scale=torch.ones(()), rotation=torch.eye(3), translation=torch.tensor([0.0, math.nan, 0.0]))
