"""GS-LRM against the published code's own numbers, and its laws."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from samples import golden_views

from mouselift.errors import InputError
from mouselift.geometry import Cameras, Views, camera_rays
from mouselift.geometry.rigs import facelift_rig, mouse_rig, orbit
from mouselift.models.checkpoint_io import load_gslrm
from mouselift.models.gslrm import GSLRM, GSLRMConfig
from mouselift.models.transformer import Attention
from mouselift.render import render

GOLDEN = Path(os.environ.get("MOUSELIFT_GOLDEN", Path(__file__).parents[4] / "shared" / "golden"))
TINY = GSLRMConfig(width=64, head_dim=16, num_layers=2)


def golden(name: str) -> dict:
    path = GOLDEN / f"{name}.pt"
    if not path.is_file():
        pytest.skip(f"golden vectors not found at {path}; set MOUSELIFT_GOLDEN")
    return torch.load(path, weights_only=True)


def random_views(num_views: int, size_px: int = 32, seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(1, num_views, 3, size_px, size_px, generator=generator)
    masks = torch.zeros(1, num_views, 1, size_px, size_px)
    masks[..., 8:24, 10:20] = 1
    azimuths = (torch.rand(num_views, generator=generator) * 360).tolist()
    return Views(images=images, masks=masks, cameras=orbit(azimuths, 20.0, size_px=size_px).reshape(1, num_views))


@pytest.mark.parametrize(("name", "head_dim"), [("gslrm_tiny", 16), ("gslrm_sh1", 32)])
def test_reproduces_the_published_code(name: str, head_dim: int) -> None:
    vectors = golden(name)
    model = load_gslrm(vectors["state_dict"], head_dim=head_dim)
    with torch.no_grad():
        raw = model.raw(golden_views(vectors))
    for ours, theirs in (
        (raw.means, "xyz"),
        (raw.sh, "features"),
        (raw.log_scales, "scaling"),
        (raw.quats, "rotation"),
        (raw.opacity_logits[..., None], "opacity"),
    ):
        torch.testing.assert_close(ours, vectors["out"][theirs], atol=1e-5, rtol=1e-5)


def test_published_size_has_the_published_tensors() -> None:
    with torch.device("meta"):
        model = GSLRM(GSLRMConfig())
    assert len(model.state_dict()) == 151
    assert sum(p.numel() for p in model.parameters()) == 303_565_824


def test_upstream_wrappings_are_undone() -> None:
    model = GSLRM(TINY)
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    state["module.loss_calculator.perceptual_loss_module.net.conv1.weight"] = torch.zeros(64, 3, 3, 3)
    loaded = load_gslrm({"model": state, "fwdbwd_pass_step": 3}, head_dim=16)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_missing_unexpected_and_misshapen_tensors_are_all_named() -> None:
    state = dict(GSLRM(TINY).state_dict())
    del state["input_layer_norm.weight"]
    state["stray.weight"] = torch.zeros(1)
    state["transformer_layers.1.attn.fc.weight"] = torch.zeros(3, 3)
    with pytest.raises(InputError) as error:
        load_gslrm(state, head_dim=16)
    message = str(error.value)
    assert "missing input_layer_norm.weight" in message
    assert "unexpected stray.weight" in message
    assert "transformer_layers.1.attn.fc.weight (3, 3), expected (64, 64)" in message


def test_one_gaussian_per_pixel_and_the_free_ones() -> None:
    gaussians = GSLRM(TINY)(random_views(3))
    assert gaussians.means.shape == (1, 2 + 3 * 32 * 32, 3)
    assert torch.allclose(gaussians.quats.norm(dim=-1), torch.ones(()), atol=1e-5)
    assert float(gaussians.scales.max()) <= 0.3013


def test_pixel_gaussians_lie_on_their_rays() -> None:
    model, views = GSLRM(TINY), random_views(2)
    means = model(views).means[0, 2:].unflatten(0, (2, 16, 64))  # view, patch, pixel in patch
    pixels = views.cameras[0].project(means.reshape(2, -1, 3)).reshape(2, 16, 64, 2)
    rows, columns = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    inside = torch.stack([columns, rows], -1).reshape(64, 2)
    for patch in range(16):
        corner = torch.tensor([patch % 4, patch // 4]) * 8
        torch.testing.assert_close(pixels[:, patch], (inside + corner).expand(2, -1, -1), atol=2e-3, rtol=0)


def test_the_order_of_the_views_does_not_matter() -> None:
    torch.manual_seed(0)
    model, views = GSLRM(TINY), random_views(4)
    order = [2, 0, 3, 1]
    plain = model(views).means[0, 2:].unflatten(0, (4, -1))
    permuted = model(views[:, order]).means[0, 2:].unflatten(0, (4, -1))
    torch.testing.assert_close(permuted, plain[order], atol=1e-5, rtol=1e-5)


def test_skipping_empty_patches_keeps_exactly_the_occupied_ones() -> None:
    config = GSLRMConfig(width=64, head_dim=16, num_layers=1, skip_empty_patches=True)
    views = random_views(2)
    gaussians = GSLRM(config)(views)
    occupied_patches = 2 * 2 * 2  # rows 8..24 and columns 10..20 touch 2 x 2 patches of 8 px in each of 2 views
    assert len(gaussians) == 2 + occupied_patches * 64
    pixels = views.cameras[0, 0].project(gaussians.means[0, 2 : 2 + 4 * 64])
    assert bool(((pixels > 8) & (pixels < 24)).all())


def test_skipping_nothing_is_the_same_as_not_skipping() -> None:
    torch.manual_seed(1)
    skipping = GSLRM(GSLRMConfig(width=64, head_dim=16, num_layers=1, skip_empty_patches=True))
    plain = GSLRM(GSLRMConfig(width=64, head_dim=16, num_layers=1))
    plain.load_state_dict(skipping.state_dict())
    views = random_views(2)
    full = Views(images=views.images, masks=torch.ones_like(views.masks), cameras=views.cameras)
    torch.testing.assert_close(skipping(full).means, plain(full).means)


def test_bf16_stays_close_in_depth() -> None:
    torch.manual_seed(2)
    model, views = GSLRM(TINY), Views.stack([random_views(6)[0]])
    exact, quick = model(views).means, model(views, bf16=True).means
    assert float((exact - quick)[:, 2:].norm(dim=-1).max()) < 0.02


def test_facelift_rig_is_a_valid_context() -> None:
    cameras = facelift_rig(size_px=16).reshape(1, 6)
    views = Views(images=torch.rand(1, 6, 3, 16, 16), masks=torch.ones(1, 6, 1, 16, 16), cameras=cameras)
    assert len(GSLRM(TINY)(views)) == 2 + 6 * 256


def ball(radius: float, cameras: Cameras) -> Views:
    """A red ball at the origin as it looks from all sides, to the accuracy of its circular outline."""
    _, directions = camera_rays(cameras)
    sine = torch.linalg.cross(cameras.centres[..., None, None, :].expand_as(directions), directions).norm(dim=-1)
    masks = ((radius - sine) / 0.02 + 0.5).clamp(0, 1)[..., None, :, :]
    colours = torch.tensor([0.8, 0.1, 0.1])[:, None, None].expand(*masks.shape[:-3], 3, *masks.shape[-2:])
    return Views(images=colours, masks=masks, cameras=cameras)


def silent(model: GSLRM) -> GSLRM:
    torch.nn.init.zeros_(model.pixel_gaussian_decoder[1].weight)
    torch.nn.init.zeros_(model.gaussian_upsampler.linear.weight)
    return model


def test_starting_from_the_hull_a_silent_network_shows_the_subject_from_a_new_side() -> None:
    model = silent(GSLRM(GSLRMConfig(width=64, head_dim=16, num_layers=1, start_from_hull=True)))
    context = ball(0.5, mouse_rig(size_px=64)).reshape(1, 6)
    gaussians = model(context)[0].detach().pruned(0.5)
    assert len(gaussians) > 500
    radii = gaussians.means.norm(dim=-1)
    assert radii.median() == pytest.approx(0.5, abs=0.06)  # a hull of six views is a little larger than the ball
    assert radii.max() < 0.9  # the hull of six views has corners
    held_out = ball(0.5, orbit([75.0], elevations_deg=10.0, fov_deg=30.0, size_px=64))
    out = render(gaussians, held_out.cameras, (0.0, 0.0, 0.0))
    overlap = ((out.alpha > 0.5) & (held_out.masks > 0.5)).sum() / ((out.alpha > 0.5) | (held_out.masks > 0.5)).sum()
    assert overlap > 0.75  # the hull is larger than the ball, and nobody sees its underside
    inside = held_out.masks[0, 0] > 0.99
    assert (out.image[0, 0][inside] - 0.8).abs().mean() < 0.1


def test_the_published_form_does_not_know_the_masks() -> None:
    views = random_views(1)
    model = GSLRM(TINY)
    other = Views(images=views.images, masks=torch.rand_like(views.masks), cameras=views.cameras)
    assert torch.equal(model(views).means, model(other).means)
    assert not torch.equal(
        model(views).means, model(Views(images=1 - views.images, masks=views.masks, cameras=views.cameras)).means
    )


def test_views_of_several_sizes_are_one_context() -> None:
    torch.manual_seed(3)
    model, views = GSLRM(TINY), random_views(4)
    whole = model(views).means
    apart = model([views[:, :1], views[:, 1:]]).means
    torch.testing.assert_close(apart, whole, atol=1e-5, rtol=1e-5)
    small = views[:, 2:].resized(16, 24)
    mixed = model([views[:, :2], small])
    assert len(mixed) == 2 + 2 * 32 * 32 + 2 * 16 * 24
    pixels = small.cameras[0, 1].project(mixed.means[0, -64:])  # the last patch of the last view
    assert bool(((pixels > torch.tensor([8, 16])) & (pixels < torch.tensor([16, 24]))).all())


def test_a_hull_of_views_of_several_sizes_is_that_of_one_size() -> None:
    model = silent(GSLRM(GSLRMConfig(width=64, head_dim=16, num_layers=1, start_from_hull=True)))
    context = ball(0.5, mouse_rig(size_px=64)).reshape(1, 6)
    mixed = model([context[:, :3], context[:, 3:].resized(32, 32)])[0].detach().pruned(0.5)
    assert mixed.means.norm(dim=-1).median() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("size", [(36, 32), (32, 36)])
def test_views_that_are_no_whole_patches_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of the patch size 8"):
        GSLRM(TINY)(random_views(1).resized(*size))


def test_groups_of_different_batches_are_refused() -> None:
    views = random_views(1)
    with pytest.raises(ValueError, match="the same B"):
        GSLRM(TINY)([views, Views.cat([views, views])])


def test_bounded_scales_stay_in_their_range_and_start_in_its_middle() -> None:
    low, high = 0.002, 0.05
    config = GSLRMConfig(width=64, head_dim=16, num_layers=1, scale_range=(low, high))
    scales = silent(GSLRM(config))(random_views(1)).scales
    torch.testing.assert_close(scales, torch.full_like(scales, (low + high) / 2))
    wild = GSLRM(config)
    torch.nn.init.normal_(wild.pixel_gaussian_decoder[1].weight, std=5.0)
    scales = wild(random_views(1)).scales.detach()
    assert low * 0.9999 <= float(scales.min()) < 0.01
    assert 0.04 < float(scales.max()) <= high * 1.0001


def test_a_bounded_scale_starts_at_the_size_of_a_pixel_of_the_hull() -> None:
    config = GSLRMConfig(width=64, head_dim=16, num_layers=1, start_from_hull=True)
    context = ball(0.5, mouse_rig(size_px=64)).reshape(1, 6)
    free = silent(GSLRM(config))(context).scales[0, 2:]
    bounded = silent(GSLRM(replace(config, scale_range=(0.001, 0.1))))(context).scales[0, 2:]
    torch.testing.assert_close(bounded, free, rtol=1e-4, atol=0)


def test_normalised_queries_and_keys_do_not_care_for_their_size() -> None:
    torch.manual_seed(4)
    attention = Attention(32, 16, qk_norm=True)
    tokens = torch.randn(1, 5, 32)
    before = attention(tokens)
    with torch.no_grad():
        attention.to_qkv.weight[:64] *= 10  # queries and keys
    torch.testing.assert_close(attention(tokens), before, atol=1e-4, rtol=1e-3)
    assert set(attention.state_dict()) == {"to_qkv.weight", "fc.weight", "q_norm.weight", "k_norm.weight"}
