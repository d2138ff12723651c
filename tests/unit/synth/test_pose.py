"""Poses stay within limits, feet stand on the floor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mouselift.body.mesh import joint_frames, procedural_mouse
from mouselift.body.skeleton import INDEX, JOINTS, LEAVES
from mouselift.synth.ground import TAIL_CLEARANCE_MM, between, stand
from mouselift.synth.pose import BEHAVIOURS, Build, Pose, PosePrior, rotation_matrices, sample_build

unit_vectors = st.integers(0, 10_000).map(
    lambda seed: (lambda v: v / np.linalg.norm(v))(np.random.default_rng(seed).normal(size=3))
)


@given(seed=st.integers(0, 1000))
def test_rodrigues_agrees_with_scipy(seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(0, 1.5, (7, 3))
    np.testing.assert_allclose(rotation_matrices(vectors), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-6)


@given(a=unit_vectors, b=unit_vectors)
def test_between_turns_one_vector_into_the_other(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(between(a, b) @ a, b, atol=1e-5)
    np.testing.assert_allclose(between(a, -a) @ a, -a, atol=1e-5)
    np.testing.assert_allclose(between(a, a), np.eye(3), atol=1e-5)


def test_the_prior_is_deterministic_and_knows_every_behaviour() -> None:
    prior = PosePrior.load()
    first = [prior.sample(np.random.default_rng(i)) for i in range(80)]
    again = [prior.sample(np.random.default_rng(i)) for i in range(80)]
    assert all(np.array_equal(a.angles, b.angles) for a, b in zip(first, again, strict=True))
    assert {pose.behaviour for pose in first} == set(BEHAVIOURS)


def test_recorded_angles_stay_within_what_was_seen() -> None:
    prior, rng = PosePrior.load(), np.random.default_rng(0)
    for _ in range(50):
        angles = prior.recorded(rng, 1.0)
        assert (angles >= prior.low - 1e-6).all()
        assert (angles <= prior.high + 1e-6).all()


def test_the_prior_has_no_handedness() -> None:
    prior = PosePrior.load()
    for joint in ("pelvis", "lumbar", "head", "tail_3"):
        np.testing.assert_allclose(prior.mean[INDEX[joint]][[0, 2]], 0, atol=1e-5)  # neither roll nor yaw
    left, right = prior.mean[INDEX["knee_L"]], prior.mean[INDEX["knee_R"]]
    np.testing.assert_allclose(left, right * [-1, 1, -1], atol=1e-5)


def test_leaves_do_not_turn() -> None:
    prior = PosePrior.load()
    leaves = [INDEX[name] for name in LEAVES]
    assert np.abs(prior.mean[leaves]).max() < 1e-3


@pytest.mark.parametrize("seed", range(12))
def test_standing_keeps_rotations_and_bone_lengths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    body, pose, scales = procedural_mouse(), PosePrior.load().sample(rng), sample_build(rng).joint_scales()
    local = stand(body.joints, pose.rotations(), scales)
    np.testing.assert_allclose(local @ local.transpose(0, 2, 1), np.tile(np.eye(3), (len(JOINTS), 1, 1)), atol=1e-4)
    np.testing.assert_allclose(np.linalg.det(local), 1, atol=1e-4)


@pytest.mark.parametrize("behaviour", ["walking", "sitting", "stretched", "curled"])
def test_feet_and_tail_share_a_floor(behaviour: str) -> None:
    """Soles that bear weight lie at one height (within what the legs can reach), and the tail is not below it."""
    body, prior, found = procedural_mouse(), PosePrior.load(), 0
    scales = Build().joint_scales()
    for seed in range(400):
        pose = prior.sample(np.random.default_rng(seed))
        if pose.behaviour != behaviour:
            continue
        found += 1
        turns, positions = joint_frames(body.joints, stand(body.joints, pose.rotations(), scales), scales)
        ankles = [INDEX["ankle_L"], INDEX["ankle_R"]]
        soles = positions[ankles, 2] - body.joints[ankles, 2]
        up = turns[ankles][:, 2, 2]
        np.testing.assert_allclose(up, 1, atol=1e-3)  # flat on the floor
        tail = [i for name, i in INDEX.items() if name.startswith("tail") and name != "tail_0"]
        assert positions[tail, 2].min() > soles.min() + TAIL_CLEARANCE_MM - 2.0
        if found == 5:
            return
    pytest.fail(f"only {found} poses of {behaviour} in 400")


def test_the_heading_turns_the_pelvis_only() -> None:
    pose = Pose(angles=np.zeros((len(JOINTS), 3), np.float32), heading_rad=0.7, behaviour="recorded")
    rotations = pose.rotations()
    np.testing.assert_allclose(rotations[0][:, 0], [np.cos(0.7), np.sin(0.7), 0], atol=1e-6)
    np.testing.assert_allclose(rotations[1:], np.tile(np.eye(3), (len(JOINTS) - 1, 1, 1)), atol=1e-6)


def test_a_lying_tail_reaches_the_floor() -> None:
    """From a raised tail, a negative rise makes every part sink or lie."""
    body, scales = procedural_mouse(), Build().joint_scales()
    angles = np.zeros((len(JOINTS), 3), np.float32)
    angles[INDEX["tail_0"], 1] = 1.2
    pose = Pose(angles=angles, heading_rad=0.0, behaviour="recorded")
    tail = [i for name, i in INDEX.items() if name.startswith("tail")]
    _, raised = joint_frames(body.joints, stand(body.joints, pose.rotations(), scales), scales)
    lying = stand(body.joints, pose.rotations(), scales, tail_rise_rad=-0.3)
    _, lowered = joint_frames(body.joints, lying, scales)
    assert raised[tail[-1], 2] > 50
    assert lowered[tail[-1], 2] == pytest.approx(lowered[tail[-2], 2], abs=0.2)
    assert lowered[tail[-1], 2] < 5
    assert (np.diff(lowered[tail, 2]) < 0.2).all()
