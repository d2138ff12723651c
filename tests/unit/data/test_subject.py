"""Where the animal is: triangulation, silhouettes, the hull's centre."""

import pytest
import torch
from rig_recordings import AXES_MM, centre_at, picture, rig
from samples import seeded, uniform

from mouselift.data.consistency import hull_iou, likely_cause, likely_shift
from mouselift.data.subject import locate, measure_silhouettes, nearest_to_lines, rig_focus, triangulate


def masks_at(instant: int) -> torch.Tensor:
    masks = [torch.from_numpy(picture(view, centre_at(instant))[1]) for view in range(4)]
    return torch.stack(masks)[:, None].float() / 255


def test_triangulation_inverts_projection_through_the_lens() -> None:
    point = uniform(seeded(0), 3, low=-30, high=30)
    pixels = rig().project(point[None])[:, 0]
    torch.testing.assert_close(triangulate(pixels, rig()), point, atol=1e-6, rtol=0)
    pixels[1] = torch.nan
    torch.testing.assert_close(triangulate(pixels, rig()), point, atol=1e-6, rtol=0)
    pixels[:3] = torch.nan
    assert triangulate(pixels, rig()).isnan().all()


def test_the_point_nearest_to_lines_has_the_least_squares() -> None:
    generator = seeded(1)
    points, directions = uniform(generator, 5, 3), uniform(generator, 5, 3, low=-1)

    def cost(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.cross(x - points, torch.nn.functional.normalize(directions, dim=-1)).square().sum()

    best = nearest_to_lines(points, directions)
    for step in 1e-3 * torch.eye(3, dtype=torch.float64):
        assert cost(best) < min(cost(best + step), cost(best - step))
    assert rig_focus(rig()).norm() < 40  # all look at about the same place


def test_silhouettes_are_measured_in_pixels() -> None:
    masks = torch.zeros(2, 1, 10, 20)
    masks[0, 0, 2:5, 4:10] = 1
    found = measure_silhouettes(masks)
    assert found.areas[0] == pytest.approx(18 / 200)
    assert found.centroids[0].tolist() == [7.0, 3.5]
    assert found.boxes[0].tolist() == [4.0, 2.0, 10.0, 5.0]
    assert found.areas[1] == 0
    assert found.centroids[1].isnan().all()
    assert found.boxes[1].isnan().all()


def test_the_hull_lies_about_the_body() -> None:
    subject = locate(masks_at(10), rig())
    assert subject is not None
    assert (subject.centre - centre_at(10)).norm() < 3.0
    size = subject.high - subject.low
    assert (size >= 2 * AXES_MM - 3).all()
    assert (size <= 2 * AXES_MM + 16).all()
    body_ml = 4 / 3 * torch.pi * float(AXES_MM.prod()) / 1000
    assert body_ml < subject.volume_ml < 1.8 * body_ml


def test_nothing_to_locate() -> None:
    masks = masks_at(0)
    assert locate(torch.zeros_like(masks), rig()) is None
    one = torch.zeros_like(masks)
    one[2] = masks[2]
    assert locate(one, rig()) is None


def test_consistency_tells_right_from_swapped_and_names_the_swap() -> None:
    masks, cameras = masks_at(5), rig()
    assert hull_iou(masks, cameras).min() > 0.9
    swapped = cameras[[0, 2, 1, 3]]
    assert hull_iou(masks, swapped).mean() < 0.6
    suspicion = likely_cause([masks], swapped)
    assert suspicion is not None
    assert "west and north are swapped" in suspicion.cause
    assert suspicion.iou > 0.9
    assert likely_cause([masks], cameras) is None
    assert hull_iou(torch.zeros_like(masks), cameras).tolist() == [0.0] * 4


def test_a_late_camera_is_found() -> None:
    sequence = [masks_at(2 * t) for t in range(11)]
    late = [masks.clone() for masks in sequence]
    for t in range(5, 11):
        late[t][2] = sequence[t - 5][2]
    for t in range(5):
        late[t][2] = sequence[0][2]
    suspicion = likely_shift(late, rig(), max_shift=5)
    assert suspicion is not None
    assert "camera west" in suspicion.cause
    assert likely_shift(sequence, rig(), max_shift=5) is None
