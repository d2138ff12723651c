"""Laws of skinning, for every body that is at hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mouselift.body.mesh import Body, Region, pose_body, procedural_mouse
from mouselift.body.skeleton import INDEX, JOINTS, KEYPOINTS, rest_joints
from mouselift.synth.mammal import mammal_body

IDENTITY = np.tile(np.eye(3, dtype=np.float32), (len(JOINTS), 1, 1))


@pytest.fixture(params=["procedural", "rodent", "mammal"])
def body(request: pytest.FixtureRequest) -> Body:
    if request.param == "procedural":
        return procedural_mouse()
    if request.param == "mammal":
        return mammal_body(request.getfixturevalue("test_data") / "mammal" / "mouse.pkl")
    pytest.importorskip("dm_control", reason="the rodent body needs the extra synth")
    from mouselift.synth.rodent import rodent_body

    return rodent_body()


def random_rotations(seed: int, spread: float = 0.5) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(0, spread, (len(JOINTS), 3))
    return Rotation.from_rotvec(vectors).as_matrix().astype(np.float32)


def test_weights_are_a_partition_of_unity(body: Body) -> None:
    np.testing.assert_allclose(body.weights.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(body.dense_weights.sum(1), 1, atol=1e-5)


def test_the_rest_pose_moves_nothing(body: Body) -> None:
    posed = pose_body(body, IDENTITY)
    np.testing.assert_allclose(posed.vertices, body.vertices, atol=1e-3)
    np.testing.assert_allclose(posed.keypoints, body.keypoints, atol=1e-3)
    np.testing.assert_allclose(posed.joints, body.joints, atol=1e-3)


def test_turning_the_pelvis_turns_the_whole_animal(body: Body) -> None:
    turn = random_rotations(3)[0]
    bent = random_rotations(1, 0.2)
    bent[0] = np.eye(3)
    turned = bent.copy()
    turned[0] = turn
    before, after, pivot = pose_body(body, bent), pose_body(body, turned), body.joints[0]
    np.testing.assert_allclose(after.vertices, (before.vertices - pivot) @ turn.T + pivot, atol=2e-3)
    np.testing.assert_allclose(after.keypoints, (before.keypoints - pivot) @ turn.T + pivot, atol=2e-3)
    turned_alike = (after.flow * (before.flow @ turn.T)).sum(1)  # undefined where flow and normal meet, on few vertices
    assert np.quantile(turned_alike, 0.005) > 0.999


@given(seed=st.integers(0, 1000))
def test_bones_keep_their_length(seed: int) -> None:
    body = procedural_mouse()
    posed = pose_body(body, random_rotations(seed))
    for name, end in (("L_paw_end", "L_elbow"), ("L_knee", "L_hip"), ("R_paw_end", "R_elbow"), ("R_knee", "R_hip")):
        a, b = KEYPOINTS.index(name), KEYPOINTS.index(end)
        rest = np.linalg.norm(body.keypoints[a] - body.keypoints[b])
        assert np.linalg.norm(posed.keypoints[a] - posed.keypoints[b]) == pytest.approx(rest, rel=1e-4)


def test_scales_grow_what_a_joint_carries() -> None:
    body, scales = procedural_mouse(), np.ones((len(JOINTS), 3), dtype=np.float32)
    scales *= 1.1
    grown = pose_body(body, IDENTITY, joint_scales=scales)
    pivot = body.joints[0]
    np.testing.assert_allclose(grown.vertices, 1.1 * (body.vertices - pivot) + pivot, atol=2e-3)


def test_the_mouse_has_a_mouses_measures() -> None:
    body = procedural_mouse()
    at = dict(zip(KEYPOINTS, body.keypoints, strict=True))
    assert 75 <= np.linalg.norm(at["nose"] - at["tail_root"]) <= 90
    assert 70 <= np.linalg.norm(at["tail_root"] - at["tail_end"]) <= 85
    assert 15 <= np.linalg.norm(at["L_ear"] - at["R_ear"]) <= 22
    assert abs(body.vertices[:, 2].min()) < 0.5


def test_the_body_is_symmetric_and_closed_outwards() -> None:
    body = procedural_mouse()
    a, b, c = (body.vertices[body.faces[:, k]].astype(np.float64) for k in range(3))
    volume_ml = np.einsum("fi,fi->", a, np.cross(b, c)) / 6000
    assert 20 < volume_ml < 45  # grams of mouse; negative if the faces were inside out
    assert abs(body.vertices[:, 1].max() + body.vertices[:, 1].min()) < 0.5
    for region in Region:
        assert (body.regions == region).sum() >= 8, f"no vertices in {region.name}"


def test_hair_grows_where_it_should(body: Body) -> None:
    bare = np.isin(body.regions, [Region.TAIL, Region.FOOT, Region.NOSE, Region.EYE])
    assert (body.fur_mm[bare] == 0).all()
    assert (body.fur_mm[body.regions == Region.BACK] > 0.5).all()
    back = body.flow[body.regions == Region.BACK]
    assert (back[:, 0] < 0).mean() > 0.8  # tail-wards


def test_foreign_bodies_share_the_rest_pose(body: Body) -> None:
    """Limb bones point as ours do, so that one pose means the same on every body."""
    ours = rest_joints()
    for start, end in (("elbow_L", "wrist_L"), ("knee_R", "ankle_R"), ("ankle_L", "toe_L"), ("tail_3", "tail_4")):
        a, b = INDEX[start], INDEX[end]
        own, common = body.joints[b] - body.joints[a], ours[b] - ours[a]
        assert own @ common / np.linalg.norm(own) / np.linalg.norm(common) > 0.999


def test_a_body_refuses_broken_arrays() -> None:
    body = procedural_mouse()
    with pytest.raises(ValueError, match="sum to 1"):
        replace(body, weights=0.5 * body.weights)
    with pytest.raises(ValueError, match="vertices outside"):
        replace(body, faces=body.faces + len(body.vertices))
    with pytest.raises(ValueError, match="common skeleton"):
        replace(body, joints=body.joints[:-1])
