"""Summaries, intervals and distances of an evaluation."""

import pytest
import torch

from mouselift.evaluate.figures import METRICS, KeypointRow, Row, group_summary, interval, keypoint_summary
from mouselift.evaluate.keypoints import surface_distances_mm
from mouselift.geometry import Gaussians


def row(sample: str, value: float, angle: float = 20.0, method: str = "blank") -> Row:
    figures = dict.fromkeys(METRICS, value)
    return Row(
        sample=sample, split="val", num_views=2, view="v", method=method, angle_deg=angle, coverage=0.1, figures=figures
    )


def test_means_weigh_samples_not_views() -> None:
    rows = [row("a", 10.0), row("a", 20.0), row("a", 30.0), row("b", 40.0)]
    found = group_summary(rows)["blank"]["psnr_fg"]
    assert found["mean"] == pytest.approx(30.0)
    assert found["low"] == pytest.approx(20.0)  # drawing sample a twice
    assert found["high"] == pytest.approx(40.0)


def test_views_without_the_animal_are_left_out_of_means() -> None:
    rows = [row("a", float("nan")), row("a", 20.0), row("b", float("nan"))]
    assert group_summary(rows)["blank"]["psnr_fg"]["mean"] == pytest.approx(20.0)


def test_angles_fall_into_their_bins() -> None:
    bins = group_summary([row("a", 1.0, 29.9), row("a", 2.0, 30.0), row("a", 3.0, 180.0)])["blank"]["by_angle"]
    values = {bin_["from_deg"]: bin_["psnr_fg"]["mean"] for bin_ in bins}
    assert (values[15], values[30], values[165]) == (1.0, 2.0, 3.0)
    assert values[60] != values[60]


def test_an_interval_holds_the_mean_and_narrows_with_more_samples() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1))
    few, many = interval(values[:20]), interval(values)
    assert few["low"] < few["mean"] < few["high"]
    assert many["high"] - many["low"] < 0.5 * (few["high"] - few["low"])
    assert many["high"] - many["low"] == pytest.approx(2 * 1.96 * float(values.std()) / 20, rel=0.2)


def scene(points: list[list[float]], opacities: list[float]) -> Gaussians:
    n = len(points)
    return Gaussians(
        means=torch.tensor(points),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1),
        scales=torch.full((n, 3), 0.01),
        opacities=torch.tensor(opacities),
        sh=torch.zeros(n, 1, 3),
    )


def test_distances_are_to_the_solid_surface_in_mm() -> None:
    gaussians = scene([[0.0, 0, 0], [0.3, 0, 0]], [0.9, 0.1])  # the second one is a ghost
    keypoints = torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.04, 0.03], [torch.nan] * 3])
    found = surface_distances_mm(gaussians, keypoints, 0.01)
    assert found[:2].tolist() == pytest.approx([30.0, 5.0])
    assert bool(found[2].isnan())


def test_without_a_solid_surface_there_is_no_distance() -> None:
    assert bool(surface_distances_mm(scene([[0.0, 0, 0]], [0.4]), torch.zeros(3, 3), 0.01).isnan().all())


def test_keypoints_are_summarised_by_name() -> None:
    rows = [
        KeypointRow(sample=s, split="val", num_views=2, method="refine", keypoint=k, distance_mm=d)
        for s, k, d in (("a", "nose", 1.0), ("a", "hip", 5.0), ("b", "nose", 3.0), ("b", "hip", float("nan")))
    ]
    found = keypoint_summary(rows)["refine"]
    assert found["by_keypoint_mm"] == pytest.approx({"nose": 2.0, "hip": 5.0})
    assert found["distance_mm"]["mean"] == pytest.approx(3.0)
