from dataclasses import replace

import pytest
import torch
from samples import random_gaussians, seeded

from mouselift.export.camera_path import cameras_along, framed
from mouselift.export.film import film_frames
from mouselift.export.panels import (
    alpha_picture,
    comparison_rows,
    depth_picture,
    error_picture,
    film_layer,
    layer_rows,
)
from mouselift.geometry import Cameras, Gaussians, Views
from mouselift.render import render


def scene_and_cameras(views: int = 2) -> tuple[Gaussians, Cameras]:
    scene = random_gaussians(seeded(0), count=40).to(torch.float32)
    return framed([scene])[0], cameras_along("turntable", views, size_px=24)


def test_near_is_red_and_far_is_blue_over_white() -> None:
    depth = torch.tensor([[1.0, 3.0, 2.0]])[None]
    alpha = torch.tensor([[1.0, 1.0, 0.0]])[None]
    near, far, empty = depth_picture(depth, alpha, near=1.0, far=3.0)[:, 0].T
    assert near[0] > 2 * near[2]
    assert far[2] > 1.2 * far[0]
    assert empty.tolist() == [1, 1, 1]


def test_alpha_is_grey() -> None:
    assert alpha_picture(torch.full((1, 2, 2), 0.25)).unique().tolist() == [0.25]


def test_errors_are_black_where_there_are_none_and_bright_from_a_quarter() -> None:
    truth = torch.zeros(3, 1, 3)
    image = torch.tensor([0.0, 0.25, 0.9]).expand(3, 1, 3)
    none, quarter, more = error_picture(image, truth)[:, 0].T
    assert float(none.max()) < 0.05
    assert float(quarter.sum()) > 2
    assert quarter.tolist() == more.tolist()


def test_a_comparison_of_a_scene_with_itself_shows_no_error() -> None:
    scene, cameras = scene_and_cameras()
    output = render(scene, cameras, [0.0, 0.0, 0.0])
    straight = output.image / output.alpha.clamp_min(1e-6)
    rows = comparison_rows(
        scene, Views(images=straight, masks=output.alpha, cameras=replace(cameras, names=("a", "b")))
    )
    assert [title for title, _ in rows[1]] == ["b: truth", rows[1][1][0], "alpha", "depth", "error, 0 to 0.25"]
    assert float(rows[1][1][0].split()[1]) > 60  # dB
    assert float(rows[0][4][1].max()) < 0.05
    worse = comparison_rows(scene.pruned(0.5), Views(images=straight, masks=output.alpha, cameras=cameras))
    assert float(worse[0][1][0].split()[1]) < 40


def test_layers_stand_in_rows() -> None:
    scene, cameras = scene_and_cameras(3)
    rows = layer_rows(scene, cameras)
    assert [[title for title, _ in row] for row in rows][1] == ["view 0 alpha", "view 1 alpha", "view 2 alpha"]
    assert rows[2][0][1].shape == (3, 24, 24)


@pytest.mark.parametrize("layer", ["colour", "alpha", "depth"])
def test_films_show_every_layer(layer: str) -> None:
    scene, cameras = scene_and_cameras()
    frames = list(film_frames([scene], cameras, layer=film_layer(layer)))
    grey = [(frame == frame[..., :1]).all() for frame in frames]
    assert grey == [layer == "alpha"] * 2
    assert all(frame.std() > 5 for frame in frames)
