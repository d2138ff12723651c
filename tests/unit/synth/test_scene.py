"""Samples: deterministic, finite, inside the box, framed as promised, and their cameras tell the truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mouselift.body.skeleton import KEYPOINTS
from mouselift.geometry.rigs import RIG_RADIUS, azimuth_elevation_deg
from mouselift.synth import FurConfig, SynthConfig, SynthSample, synthesize_animal, synthesize_sample
from mouselift.synth.coat import COATS, linear_from_srgb, sample_coat, srgb_from_linear
from mouselift.synth.light import direction, visibility
from mouselift.synth.scene import SCENE_PER_MM, framed_cameras

CONFIG = SynthConfig(size_px=96, fur=FurConfig(num_hairs=12_000, num_skin=10_000))
SEEDS = range(6)


@pytest.fixture(scope="module")
def samples() -> list[SynthSample]:
    return [synthesize_sample(CONFIG, seed) for seed in SEEDS]


def test_the_same_seed_gives_the_same_sample(samples: list[SynthSample]) -> None:
    again = synthesize_sample(CONFIG, 2)
    assert torch.equal(again.views.images, samples[2].views.images)
    assert torch.equal(again.views.masks, samples[2].views.masks)
    assert torch.equal(again.keypoints_scene, samples[2].keypoints_scene)
    assert again.attributes == samples[2].attributes
    assert not torch.equal(samples[2].views.masks, samples[3].views.masks)


def test_views_have_the_promised_names_and_rig(samples: list[SynthSample]) -> None:
    cameras = samples[0].views.cameras
    assert cameras.names == tuple(f"ring_{k}" for k in range(8)) + tuple(f"framed_{k}" for k in range(6))
    azimuth, elevation = azimuth_elevation_deg(cameras[:8])
    torch.testing.assert_close(elevation, torch.full((8,), 20.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(cameras[:8].centres.norm(dim=-1), torch.full((8,), RIG_RADIUS), atol=1e-4, rtol=0)
    steps = torch.remainder(azimuth.roll(-1) - azimuth, 360)
    torch.testing.assert_close(steps, torch.full((8,), 45.0), atol=1e-2, rtol=0)
    distances = cameras[8:].centres.norm(dim=-1)
    assert ((distances > 1.99) & (distances < 4.01)).all()


def test_gaussians_are_finite_and_inside_the_box() -> None:
    for seed in range(20):
        animal = synthesize_animal(CONFIG, np.random.default_rng(seed))
        g = animal.gaussians
        for tensor in (g.means, g.quats, g.scales, g.opacities, g.sh):
            assert torch.isfinite(tensor).all()
        assert g.means.abs().max() < 1.15  # a straight tail may reach a little beyond the unit box
        assert (g.means.abs() <= 1).all(-1).float().mean() > 0.995
        assert (g.scales > 0).all()
        assert ((g.opacities > 0) & (g.opacities <= 1)).all()
        assert ((g.rgb >= -1e-5) & (g.rgb <= 1 + 1e-5)).all()
        torch.testing.assert_close(g.quats.norm(dim=-1), torch.ones(len(g)), atol=1e-5, rtol=0)


def test_keypoints_project_into_the_masks(samples: list[SynthSample]) -> None:
    """The trunk's keypoints lie on or in the animal, so every camera that sees them must see foreground there."""
    trunk = [KEYPOINTS.index(name) for name in ("neck", "body_middle", "L_shoulder", "R_shoulder", "L_hip", "R_hip")]
    hits, total = 0, 0
    for sample in samples:
        pixels = sample.views.cameras.project(sample.keypoints_scene[trunk])  # (V, 6, 2)
        grid = pixels / CONFIG.size_px * 2 - 1
        seen = torch.nn.functional.grid_sample(sample.views.masks, grid[:, :, None], align_corners=False)[:, 0, :, 0]
        inside = (grid.abs() < 1).all(-1)
        hits, total = hits + int((seen[inside] > 0.5).sum()), total + int(inside.sum())
    assert hits / total > 0.97


def test_millimetres_map_to_the_scene(samples: list[SynthSample]) -> None:
    for sample in samples:
        world = sample.scene_from_world.inverse().apply(sample.keypoints_scene)
        fore_arm = world[KEYPOINTS.index("L_paw_end")] - world[KEYPOINTS.index("L_elbow")]
        assert 6 < float(fore_arm.norm()) < 15  # mm
        assert float(sample.scene_from_world.scale) == pytest.approx(SCENE_PER_MM)
        torch.testing.assert_close(sample.scene_from_world.rotation, torch.eye(3))  # +Z stays up


def test_the_feet_point_down(samples: list[SynthSample]) -> None:
    feet = [KEYPOINTS.index(name) for name in ("L_foot", "R_foot")]
    middle = KEYPOINTS.index("body_middle")
    for sample in samples:
        assert (sample.keypoints_scene[feet, 2] < sample.keypoints_scene[middle, 2]).all()
        assert (sample.keypoints_scene[feet, 2] < 0).all()


def test_colour_is_straight(samples: list[SynthSample]) -> None:
    """Where a thin edge covers little of a pixel, its colour is the fur's, not a darkened one."""
    white = synthesize_sample(replace(CONFIG, coats=("white",), grey_share=1.0), 1).views
    rim = (white.masks > 0.1) & (white.masks < 0.5)
    solid = white.masks > 0.99
    luminance = white.images.mean(-3, keepdim=True)
    assert luminance[rim].mean() > 0.6 * luminance[solid].mean()
    assert (white.images[(white.masks == 0).expand_as(white.images)] == 0).all()
    for sample in samples:
        assert sample.views.images.min() >= 0
        assert sample.views.images.max() <= 1
        assert sample.views.masks.amax(dim=(-3, -2, -1)).min() > 0.99


def test_framed_views_fill_the_picture_as_asked() -> None:
    animal = synthesize_animal(CONFIG, np.random.default_rng(5))
    eyes = torch.tensor([[2.5, 0.0, 0.3], [0.0, -3.0, 1.0], [0.0, 0.0, 3.0], [-1.5, 1.5, 0.5]])
    fills = torch.tensor([0.62, 0.7, 0.8, 0.75])
    cameras = framed_cameras(animal.gaussians, eyes, torch.tensor([0.0, 0.1, -0.1, 0.0]), fills, 96)
    solid = animal.gaussians.means[animal.gaussians.opacities > 0.5]
    pixels = cameras.project(solid)
    low, high = pixels.amin(1), pixels.amax(1)
    torch.testing.assert_close((high - low).amax(-1) / 96, fills, atol=2e-3, rtol=0)
    torch.testing.assert_close(0.5 * (low + high), torch.full((4, 2), 48.0), atol=1.0, rtol=0)
    torch.testing.assert_close(cameras.centres, eyes, atol=1e-4, rtol=0)


def test_rendered_framed_views_stay_inside(samples: list[SynthSample]) -> None:
    for sample in samples:
        border = sample.views.masks[8:].clone()
        border[..., 4:-4, 4:-4] = 0
        assert border.max() < 0.4  # a whisker may cross, the animal may not


def test_grey_samples_have_no_colour() -> None:
    grey = synthesize_sample(replace(CONFIG, grey_share=1.0, num_ring=2, num_framed=0), 0)
    assert grey.attributes["grey"] is True
    assert (grey.views.images.amax(1) - grey.views.images.amin(1)).max() < 1e-3


def test_coats_differ_as_their_names_say() -> None:
    means = {}
    for coat in COATS:
        views = synthesize_sample(replace(CONFIG, coats=(coat,), grey_share=0.0, num_framed=0), 3).views
        means[coat] = float(views.images[views.masks.expand_as(views.images) > 0.9].mean())
    assert means["black"] < means["brown"] < means["white"]
    assert means["black"] < means["agouti"] < means["white"]


@pytest.mark.parametrize(
    "change",
    [
        {"size_px": 4},
        {"num_ring": 0, "num_framed": 0},
        {"bodies": ()},
        {"coats": ("pink",)},
        {"grey_share": 1.5},
        {"distance_range": (1.0, 2.0)},
        {"fill_range": (0.8, 0.6)},
        {"ring_fov_deg": 0.0},
    ],
)
def test_ranges_are_checked(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each names its own field
        replace(CONFIG, **change)


def test_srgb_round_trip() -> None:
    encoded = np.linspace(0, 1, 101)[:, None].repeat(3, axis=1)
    np.testing.assert_allclose(srgb_from_linear(linear_from_srgb(encoded)), encoded, atol=1e-5)
    assert srgb_from_linear(np.full((1, 3), 0.5))[0, 0] == pytest.approx(0.7354, abs=1e-4)


def test_an_unknown_coat_is_named() -> None:
    with pytest.raises(ValueError, match="'pink'"):
        sample_coat(np.random.default_rng(0), "pink")


def test_what_lies_behind_is_in_shadow() -> None:
    plate = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0), [20.0]), -1).reshape(-1, 3).astype(np.float32)
    below, beside = np.array([[20.0, 20.0, 0.0]], np.float32), np.array([[80.0, 20.0, 0.0]], np.float32)
    free = visibility(np.concatenate([plate, below, beside]), direction(0.0, np.pi / 2))
    assert free[-2] == 0
    assert free[-1] == 1
    assert free[:-2].min() > 0.9
