"""What several cameras say together: consensus on the place, the hull as a witness, and the whole segmenter."""

import cv2
import numpy as np
import pytest
import torch
from cages import SIZE_PX, bright, cage, one_by_one, overlap, picture, silhouettes

from mouselift.data.segmentation import learn_segmenter
from mouselift.data.segmentation.consensus import ball_box, find_consensus
from mouselift.data.segmentation.hull_check import fit_hull
from mouselift.data.segmentation.parts import whole
from mouselift.data.segmentation.seeds import find_seeds
from mouselift.errors import InputError
from mouselift.geometry import Cameras
from mouselift.geometry.rigs import orbit

CAMERAS = one_by_one()
PLACE = (0.1, -0.2, 0.1)
CENTRE = torch.tensor(PLACE, dtype=torch.float64)


def blob(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX] + 0.5
    return np.hypot(columns - x, rows - y) < radius


# ---- consensus


def test_a_mirror_image_in_one_camera_is_not_chosen() -> None:
    parts = [[whole(mask)] for mask in silhouettes(PLACE)]
    parts[1].insert(0, whole(blob(20, 130, 18)))
    found = find_consensus(parts, CAMERAS)
    assert found is not None
    assert found.chosen == (0, 1, 0, 0)
    assert (found.centre - CENTRE).norm() < 0.15


def test_a_camera_that_sees_only_something_else_has_nothing_chosen() -> None:
    parts = [[whole(mask)] for mask in silhouettes(PLACE)]
    parts[2] = [whole(blob(20, 130, 18))]
    found = find_consensus(parts, CAMERAS)
    assert found is not None
    assert found.chosen == (0, 0, None, 0)


def test_cameras_that_see_different_things_do_not_agree() -> None:
    corners = [(20, 20), (140, 20), (140, 140), (20, 140)]
    assert find_consensus([[whole(blob(x, y, 10))] for x, y in corners], CAMERAS) is None
    assert find_consensus([[], [], [], [whole(blob(80, 80, 10))]], CAMERAS) is None


def test_the_box_of_a_ball_holds_its_silhouette() -> None:
    for camera in CAMERAS:
        box = ball_box(camera, torch.zeros(3, dtype=torch.float64), 0.3)
        assert box is not None
        x, y = camera.project(torch.tensor([[0.0, 0.0, 0.3], [0.0, 0.0, -0.3]], dtype=torch.float64))[0].T.tolist()
        assert box[0] <= min(x) <= max(x) <= box[2]
        assert box[1] <= min(y) <= max(y) <= box[3]
    behind = 2 * CAMERAS[0].centres[0]
    assert ball_box(CAMERAS[0], behind, 0.1) is None


# ---- hull


def test_true_masks_agree_and_allow_each_other() -> None:
    masks = silhouettes(PLACE)
    fit = fit_hull(masks, CAMERAS, CENTRE)
    assert fit.ious.min() > 0.93
    for mask, allowed in zip(masks, fit.allowed, strict=True):
        assert np.count_nonzero(mask & ~allowed) < 0.02 * np.count_nonzero(mask)  # true parts are not vetoed


def test_lens_distortion_is_part_of_the_camera() -> None:
    rig = orbit([0.0, 80.0, 170.0, 260.0], 35.0, fov_deg=90.0, size_px=SIZE_PX).to(torch.float64)
    distortion = torch.zeros(4, 5, dtype=torch.float64)
    distortion[0, :2] = torch.tensor([-0.3, 0.1])
    bent = Cameras(K=rig.K, w2c=rig.w2c, width=SIZE_PX, height=SIZE_PX, distortion=distortion)
    centre = torch.tensor([0.8, -0.8, 0.3], dtype=torch.float64)
    sphere = torch.nn.functional.normalize(torch.randn(2000, 3, dtype=torch.float64), dim=-1)
    masks = []
    for pixels in bent.project(centre + 0.3 * sphere).numpy():
        outline = cv2.convexHull((16 * (pixels - 0.5)).round().astype(np.int32))
        mask = cv2.fillConvexPoly(np.zeros((SIZE_PX, SIZE_PX), np.uint8), outline, 1, shift=4)
        masks.append(mask.astype(bool))
    assert fit_hull(masks, one_by_one(bent), centre).ious.min() > 0.95
    assert fit_hull(masks, one_by_one(rig), centre).ious.min() < 0.9  # one camera is off by several pixels


def test_a_wrong_mask_disagrees_most_and_is_not_allowed() -> None:
    masks = silhouettes(PLACE)
    leak = blob(40, 40, 12)
    assert not (leak & masks[3]).any()
    masks[3] = masks[3] | leak
    fit = fit_hull(masks, CAMERAS, CENTRE)
    assert fit.ious.argmin() == 3
    assert not (fit.allowed[3] & leak).any()


def test_an_empty_mask_does_not_carve_and_is_shown_where_the_others_see_the_animal() -> None:
    truth = silhouettes(PLACE)
    masks = [*truth[:3], np.zeros_like(truth[3])]
    fit = fit_hull(masks, CAMERAS, CENTRE)
    assert fit.ious[3] == 0
    assert fit.ious[:3].min() > 0.93
    assert np.count_nonzero(truth[3] & ~fit.allowed[3]) < 0.02 * np.count_nonzero(truth[3])


def test_a_camera_whose_picture_ends_does_not_carve_beyond_it() -> None:
    masks = silhouettes(PLACE)
    width = int(np.median(np.nonzero(masks[0])[1]))
    cameras = (CAMERAS[0].cropped(0, 0, width, SIZE_PX), *CAMERAS[1:])
    cut = np.ascontiguousarray(masks[0][:, :width])
    assert fit_hull([cut, *masks[1:]], cameras, CENTRE).ious.min() > 0.9


def test_masks_that_share_no_volume_agree_nowhere() -> None:
    corners = [(20, 20), (140, 20), (140, 140), (20, 140)]
    fit = fit_hull([blob(x, y, 6) for x, y in corners], CAMERAS, torch.zeros(3, dtype=torch.float64))
    assert fit.ious.tolist() == [0, 0, 0, 0]
    assert not any(allowed.any() for allowed in fit.allowed)


def test_one_mask_has_no_hull() -> None:
    masks = silhouettes(PLACE)
    fit = fit_hull([masks[0], *(np.zeros_like(mask) for mask in masks[1:])], CAMERAS, CENTRE)
    assert np.isnan(fit.ious).all()


# ---- seeds and the segmenter


def recorded(places: list[tuple[float, float, float]], seed: int = 0) -> list[list[np.ndarray]]:
    """Frames of all cameras, the animal at these places; camera 1 has a bright mirror image in its cage wall."""
    cages = [cage(view) for view in range(len(CAMERAS))]
    return [
        [
            picture(cages[v], mask | (blob(20, 138, 16) if v == 1 else False), seed + 10 * t + v)
            for v, mask in enumerate(silhouettes(place))
        ]
        for t, place in enumerate(places)
    ]


STILL = [(0.1 + 0.01 * t, -0.2, 0.1) for t in range(6)]
MOVING = [(-0.4 + 0.15 * t, 0.3 - 0.1 * t, 0.1) for t in range(6)]


@pytest.mark.parametrize("places", [STILL, MOVING], ids=["still", "moving"])
def test_masks_of_a_rig_are_true_and_say_so(places: list[tuple[float, float, float]]) -> None:
    segmenter = learn_segmenter(recorded(places), cameras=CAMERAS, network=bright)
    between = tuple((a + b) / 2 for a, b in zip(places[2], places[3], strict=True))
    views = segmenter(recorded([between], seed=900)[0])
    for view, truth in zip(views, silhouettes(between), strict=True):
        assert view.problem == ""
        assert overlap(view.mask > 127, truth) > 0.93
        assert view.agreement > 0.9
        assert 0.7 < view.area_ratio < 1.4


def test_an_instant_does_not_depend_on_those_before_it() -> None:
    segmenter = learn_segmenter(recorded(MOVING), cameras=CAMERAS, network=bright)
    first, second = recorded([MOVING[1], MOVING[4]], seed=500)
    alone = segmenter(second)
    segmenter(first)
    for a, b in zip(alone, segmenter(second), strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)


def test_a_camera_that_sees_no_animal_is_reported_and_the_others_are_not_spoiled() -> None:
    segmenter = learn_segmenter(recorded(MOVING), cameras=CAMERAS, network=bright)
    (frames,) = recorded([MOVING[2]], seed=700)
    frames[3] = picture(cage(3), np.zeros((SIZE_PX, SIZE_PX), bool), 7)
    views = segmenter(frames)
    assert views[3].problem == "no animal found"
    assert not views[3].mask.any()
    for view, truth in zip(views[:3], silhouettes(MOVING[2])[:3], strict=True):
        assert overlap(view.mask > 127, truth) > 0.93


def test_an_empty_cage_is_reported_in_every_camera() -> None:
    segmenter = learn_segmenter(recorded(MOVING), cameras=CAMERAS, network=bright)
    mirror, empty = blob(20, 138, 16), np.zeros((SIZE_PX, SIZE_PX), bool)
    nothing = [picture(cage(v), mirror if v == 1 else empty, 50 + v) for v in range(4)]
    assert [view.problem for view in segmenter(nothing)] == ["no animal found"] * 4


def test_tracked_points_choose_among_what_stands_out() -> None:
    def frame(animal: np.ndarray, seed: int) -> np.ndarray:
        return picture(cage(0), animal | blob(120, 120, 17), seed)

    samples = [[frame(blob(30 + 8 * t, 40, 15), t)] for t in range(6)]
    tracks = [[np.array([[24.0 + 8 * t, 40.0], [36.0 + 8 * t, 40.0], [30 + 8 * t, 28], [np.nan, 3]])] for t in range(6)]
    segmenter = learn_segmenter(samples, points=tracks, network=bright)
    (view,) = segmenter([frame(blob(50, 40, 15), 77)], [tracks[2][0] + 4])
    assert overlap(view.mask > 127, blob(50, 40, 15)) > 0.93
    assert np.isnan(view.agreement)


def test_a_changed_size_is_a_problem() -> None:
    segmenter = learn_segmenter([[picture(cage(0), blob(30 + 15 * t, 80, 9), t)] for t in range(6)], network=bright)
    (view,) = segmenter([picture(cage(0), blob(80, 80, 17), 9)])
    assert view.problem == ""  # 3.6 times the usual
    (view,) = segmenter([picture(cage(0), blob(80, 80, 17) | blob(100, 80, 17), 9)])
    assert "no animal found" in view.problem or "times the usual" in view.problem


def test_frames_in_which_nothing_stands_out_are_refused() -> None:
    dark = [[np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)] for _ in range(5)]
    with pytest.raises(InputError, match="camera top: the animal stands out in 0 of 5 sampled frames, expected at"):
        find_seeds(dark, ["top"], network=lambda windows: torch.zeros_like(windows[:, :1]))


def test_one_seed_unlike_the_others_is_dropped() -> None:
    frames = [[picture(cage(0), blob(80, 80, 40 if t == 2 else 15), t)] for t in range(5)]
    seeds = find_seeds(frames, ["top"], network=bright)
    assert [row[0] is None for row in seeds] == [False, False, True, False, False]
