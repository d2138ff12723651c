"""Poses as tensors say what numpy's posing says, and keep their meaning in mirrors, other frames and codes."""

from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mouselift.body.code import CODE_DIM, PARTS, SeenPose, axis_angle, decode, encode, rotations
from mouselift.body.mesh import pose_body, procedural_mouse
from mouselift.body.pose import BodyPose, mouse_tensors, posed_keypoints, posed_vertices
from mouselift.body.skeleton import KEYPOINTS
from mouselift.geometry import Similarity
from mouselift.synth.pose import PosePrior, sample_build

OTHER_SIDE = [
    KEYPOINTS.index({"L": "R", "R": "L"}[name[0]] + name[1:]) if name[1] == "_" else i
    for i, name in enumerate(KEYPOINTS)
]
seeds = st.integers(0, 10_000)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, BodyPose]:
    rng = np.random.default_rng(seed)
    build, pose = sample_build(rng), PosePrior.load().sample(rng)
    tensors = BodyPose(
        rotations=torch.from_numpy(pose.rotations()),
        factors=torch.tensor(astuple(build)),
        root=torch.from_numpy(procedural_mouse().joints[0]),
        unit=torch.tensor(1.0),
    )
    return pose.rotations(), build.joint_scales(), tensors


@settings(max_examples=10)
@given(seeds)
def test_tensors_pose_as_numpy_does(seed: int) -> None:
    matrices, scales, pose = drawn(seed)
    posed = pose_body(procedural_mouse(), matrices, joint_scales=scales)
    vertices, _ = posed_vertices(mouse_tensors(), pose)
    assert float((vertices - torch.from_numpy(posed.vertices)).abs().max()) < 1e-3  # mm
    assert float((posed_keypoints(mouse_tensors(), pose) - torch.from_numpy(posed.keypoints)).abs().max()) < 1e-3


@settings(max_examples=10)
@given(seeds)
def test_a_similarity_moves_the_whole_body(seed: int) -> None:
    *_, pose = drawn(seed)
    turn = rotations(torch.from_numpy(np.random.default_rng(seed).normal(size=3)).float())
    similarity = Similarity(scale=torch.tensor(0.03), rotation=turn, translation=torch.tensor([0.3, -2.0, 1.0]))
    moved = posed_keypoints(mouse_tensors(), pose.transformed(similarity))
    torch.testing.assert_close(moved, similarity.apply(posed_keypoints(mouse_tensors(), pose)), atol=1e-4, rtol=1e-4)


@settings(max_examples=10)
@given(seeds)
def test_a_mirror_swaps_the_sides(seed: int) -> None:
    *_, pose = drawn(seed)
    mirrored = posed_keypoints(mouse_tensors(), pose.mirrored())
    expected = posed_keypoints(mouse_tensors(), pose)[OTHER_SIDE] * torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(mirrored, expected, atol=1e-3, rtol=1e-4)


@settings(max_examples=10)
@given(seeds)
def test_a_code_keeps_the_body(seed: int) -> None:
    *_, pose = drawn(seed)
    seen = SeenPose(pose=pose, up=torch.tensor([0.0, 0.6, 0.8]))
    again = decode(encode(seen))
    expected = posed_keypoints(mouse_tensors(), pose)
    torch.testing.assert_close(posed_keypoints(mouse_tensors(), again.pose), expected, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(again.up, seen.up)
    assert float(again.pose.factors[0]) == 1.0  # the size went into the unit


def test_every_entry_of_a_code_belongs_to_one_part() -> None:
    assert sorted(i for part in PARTS.values() for i in part) == list(range(CODE_DIM))


@given(st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3))
def test_axis_angles_come_back(angles: list[float]) -> None:
    vector = torch.tensor(angles, dtype=torch.float64)
    torch.testing.assert_close(axis_angle(rotations(vector)), vector, atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_entry_of_a_code() -> None:
    code = (0.1 * torch.randn(2, CODE_DIM, generator=torch.Generator().manual_seed(0))).requires_grad_()
    seen = decode(code)
    vertices, _ = posed_vertices(mouse_tensors(), seen.pose)
    (vertices.square().sum() + seen.up[:, 0].sum()).backward()
    assert code.grad is not None
    assert bool((code.grad.abs() > 0).all())


@pytest.mark.parametrize("index", [0, 1])
def test_a_batch_is_its_entries(index: int) -> None:
    codes = 0.2 * torch.randn(2, CODE_DIM, generator=torch.Generator().manual_seed(1))
    whole = decode(codes).pose
    torch.testing.assert_close(
        posed_keypoints(mouse_tensors(), whole)[index], posed_keypoints(mouse_tensors(), whole[index])
    )
