"""What is drawn lies where the camera says, and nowhere else."""

import numpy as np
import pytest
import torch

from mouselift.export.overlay import (
    draw_axes,
    draw_floor,
    draw_label,
    draw_line,
    draw_outline,
    draw_points,
    draw_text,
    sheet,
    shrunk,
    text_size,
)
from mouselift.export.rig_plot import CAMERA_COLOURS, SUBJECT, rig_plot
from mouselift.geometry import Cameras
from mouselift.geometry.rigs import orbit

RED, GREEN = (255, 0, 0), (0, 255, 0)


def black(height: int = 60, width: int = 80) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def middle_of(picture: np.ndarray, channel: int = 0) -> np.ndarray:
    """The centre of brightness, x and y in our pixel convention."""
    light = picture[..., channel].astype(float)
    y, x = np.indices(light.shape) + 0.5
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


def camera(distortion: tuple[float, ...] | None = None) -> Cameras:
    one = orbit([-55.0], 35.0, size_px=200)[0]
    if distortion is None:
        return one
    return Cameras(K=one.K, w2c=one.w2c, width=200, height=200, distortion=torch.tensor(distortion))


@pytest.mark.parametrize("pixel", [(40.5, 30.5), (21.25, 10.75), (33.0, 44.0)])
def test_points_are_drawn_to_a_fraction_of_a_pixel(pixel: tuple[float, float]) -> None:
    picture = black()
    draw_points(picture, np.array([pixel]), (255, 255, 255), radius_px=4)
    assert np.abs(middle_of(picture) - pixel).max() < 0.15


def test_points_that_nobody_sees_are_left_out() -> None:
    picture = black()
    draw_points(picture, np.array([[np.nan, 5], [-3, 5], [90, 5], [5, np.inf]]), RED, names=["a", "b", "c", "d"])
    assert not picture.any()


def test_names_stand_beside_their_points() -> None:
    bare, named = black(), black()
    draw_points(bare, np.array([[20.0, 30.0]]), RED)
    draw_points(named, np.array([[20.0, 30.0]]), RED, names=["nose"])
    added = np.argwhere((bare != named).any(-1))
    assert len(added)
    assert added[:, 1].min() > 20
    assert abs(added[:, 0].mean() - 30) < 4


def test_outline_follows_the_border_of_a_mask_of_another_size() -> None:
    picture = black(80, 80)
    mask = np.zeros((40, 40), np.float32)
    mask[10:30, 10:30] = 1
    draw_outline(picture, mask, RED)
    rows, columns = np.nonzero(picture[..., 0] > 100)
    assert np.isclose([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1], [20, 60, 20, 60], atol=1).all()
    assert not picture[25:55, 25:55].any()


def test_lines_are_interrupted_where_a_point_is_not_seen() -> None:
    picture = black()
    draw_line(picture, np.array([[5.5, 30.5], [20.5, 30.5], [np.nan, 0], [60.5, 30.5], [75.5, 30.5]]), RED)
    drawn = picture[30, :, 0] > 100
    assert drawn[6:20].all()
    assert not drawn[22:59].any()
    assert drawn[61:75].all()


def test_lines_to_far_away_do_not_overflow() -> None:
    picture = black()
    draw_line(picture, np.array([[40.0, 30.0], [1e12, 30.0]]), RED)
    assert not picture.any()


@pytest.mark.parametrize("distortion", [None, (0.3, -0.2, 0.01, 0.02, 0.1)])
def test_axes_end_where_the_camera_sees_their_ends(distortion: tuple[float, ...] | None) -> None:
    seen, picture, length = camera(distortion), black(200, 200), 0.6
    draw_axes(picture, seen, torch.zeros(3), length, thickness_px=2)
    for axis, (x, y) in enumerate(seen.project(length * torch.eye(3)).tolist()):
        around = picture[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4].astype(int)
        assert around.reshape(-1, 3).max(0).argmax() == axis


def test_nothing_is_drawn_behind_the_camera() -> None:
    picture, seen = black(200, 200), camera()
    draw_axes(picture, seen, seen.centres * 2, 0.3)
    draw_floor(picture, seen, seen.centres * 2, 0.01)
    assert not picture.any()


def test_the_floor_spares_what_stands_on_it() -> None:
    picture, behind = black(200, 200), np.zeros((200, 200), bool)
    behind[:, :100] = True
    draw_floor(picture, camera(), torch.zeros(3), 0.2, behind=behind)
    assert not picture[:, :100].any()
    assert picture[:, 100:].any()


@pytest.mark.parametrize("anchor", ["lt", "mm", "rb"])
def test_text_lies_at_its_anchor_and_may_leave_the_picture(anchor: str) -> None:
    picture = black(60, 120)
    width, height = text_size("Camera", 20)
    draw_text(picture, (60, 30), "Camera", size_px=20, anchor=anchor)
    left = {"l": 60, "m": 60 - width / 2, "r": 60 - width}[anchor[0]]
    top = {"t": 30, "m": 30 - height / 2, "b": 30 - height}[anchor[1]]
    rows, columns = np.nonzero(picture[..., 0])
    assert left - 1 <= columns.min() < columns.max() <= left + width + 1
    assert top - 1 <= rows.min() < rows.max() <= top + height + 1
    for far in ((-500, 10), (500, 10), (10, -500), (10, 500), (-5, -5), (118, 58)):
        draw_text(picture, far, "Camera", anchor=anchor, halo=(9, 9, 9))


def test_labels_fit_pictures_smaller_than_they_are() -> None:
    picture = np.full((8, 10, 3), 200, np.uint8)
    draw_label(picture, "a long title")
    assert picture.mean() < 200


def test_shrinking_averages() -> None:
    board = np.indices((80, 80)).sum(0) % 2 * np.uint8(255)
    small = shrunk(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), 20)
    assert small.shape == (20, 20, 3)
    assert np.abs(small.astype(int) - 127).max() <= 1


def test_sheets_hold_pictures_of_different_sizes() -> None:
    made = sheet([[black(10, 20) + 50, black(30, 40) + 60], [black(5, 5) + 70]], ["first", "second"])
    for value, area in ((50, 200), (60, 1200), (70, 25)):
        assert (made == value).all(-1).sum() == area


def test_the_rig_from_above_shows_every_camera_in_its_direction() -> None:
    azimuths = (10.0, 130.0, 250.0)
    cameras = orbit(azimuths, [0.0, 20.0, 45.0], names=["a", "b", "c"])
    picture = rig_plot([cameras[[v]] for v in range(3)], torch.zeros(3), track=torch.zeros(2, 3), unit="scene units")
    assert picture.shape[1] == 1400
    above, beside = picture[:, :700], picture[:, 700:]
    subject = np.argwhere((above == SUBJECT).all(-1)).mean(0)
    for v, azimuth in enumerate(azimuths):
        y, x = np.argwhere((above == CAMERA_COLOURS[v]).all(-1)).mean(0) - subject
        turned = (np.rad2deg(np.arctan2(-y, x)) - azimuth + 180) % 360 - 180
        assert abs(turned) < 8
    heights = [np.argwhere((beside == CAMERA_COLOURS[v]).all(-1))[:, 0].mean() for v in range(3)]
    assert heights[0] > heights[1] > heights[2]


def test_rigs_need_not_have_one_picture_size_nor_names() -> None:
    cameras = [orbit([0.0], size_px=64), orbit([90.0], size_px=128)]
    assert rig_plot(cameras, torch.zeros(3), width_px=700).shape[1] == 700
