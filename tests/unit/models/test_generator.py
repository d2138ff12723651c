"""The multi-view generator: invariance, sampling, encoding, loss."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from mouselift.geometry import Cameras, Similarity, Views
from mouselift.geometry.rigs import mouse_rig, orbit
from mouselift.geometry.transforms import quat_to_rotmat
from mouselift.models.checkpoint_io import load_generator, save_weights
from mouselift.models.generator import (
    Generator,
    GeneratorConfig,
    decode_pixels,
    encode_pixels,
    flow_matching_loss,
    shown_at,
)

SIZE = 32
TINY = GeneratorConfig(patch_size_px=8, width=64, head_dim=32, num_layers=2)


def tiny_model(seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    return Generator(TINY).eval()


def photograph(azimuth_deg: float = -90.0) -> Views:
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(1, 1, 1, SIZE, SIZE)
    masks[..., 8:24, 8:24] = 1
    cameras = orbit([azimuth_deg], [35.0], size_px=SIZE).reshape(1, 1)
    return Views(images=torch.rand(1, 1, 3, SIZE, SIZE, generator=generator), masks=masks, cameras=cameras)


def rig(azimuth_deg: float = -90.0) -> Cameras:
    return mouse_rig(azimuth_deg, size_px=SIZE).reshape(1, 6)


def generate(model: Generator, view: Views, cameras: Cameras, steps: int = 2, seed: int = 0) -> Views:
    return model.generate(view, cameras, steps=steps, generator=torch.Generator().manual_seed(seed))


def test_result_carries_exactly_the_cameras_that_were_asked_for() -> None:
    cameras = rig()
    made = generate(tiny_model(), photograph(), cameras)
    assert made.cameras is cameras
    assert made.images.shape == (1, 6, 3, SIZE, SIZE)
    assert float(made.masks.min()) >= 0
    assert float(made.masks.max()) <= 1


def test_turning_the_scene_about_the_vertical_changes_nothing() -> None:
    turn = quat_to_rotmat(torch.tensor([0.8, 0.0, 0.0, 0.6]))
    turned = Similarity(scale=torch.ones(()), rotation=turn, translation=torch.zeros(3))
    view, cameras, model = photograph(), rig(), tiny_model()
    view_turned = replace(view, cameras=view.cameras.transformed(turned))
    torch.testing.assert_close(
        generate(model, view_turned, cameras.transformed(turned)).images,
        generate(model, view, cameras).images,
        atol=1e-4,
        rtol=1e-4,
    )


def test_turning_only_the_wanted_cameras_changes_the_answer() -> None:
    view, model = photograph(-90.0), tiny_model()
    assert not torch.allclose(generate(model, view, rig(-90.0)).images, generate(model, view, rig(-60.0)).images)


def test_a_card_shows_the_input_itself_to_its_own_camera_and_its_mirror_image_from_behind() -> None:
    view = photograph()
    seen = encode_pixels(view)
    torch.testing.assert_close(shown_at(seen, view.cameras, view.cameras, mirror=False), seen, atol=1e-4, rtol=0)
    flipped = shown_at(seen, view.cameras, view.cameras, mirror=True)
    torch.testing.assert_close(flipped, seen.flip(-1), atol=1e-4, rtol=0)


def test_a_card_keeps_its_true_size() -> None:
    """A camera of half the focal length shows the silhouette half as wide, with background around it."""
    view = photograph()
    K = view.cameras.K.clone()
    K[..., 0, 0] *= 0.5
    K[..., 1, 1] *= 0.5
    shown = shown_at(encode_pixels(view), view.cameras, replace(view.cameras, K=K), mirror=False)
    alpha = (shown[0, 0, 3] + 1) / 2
    assert float(alpha.sum()) == pytest.approx(16 * 16 / 4, rel=0.05)
    assert float(alpha[:10].max()) == 0


def test_same_seed_same_bytes_and_other_seed_other_bytes() -> None:
    model = tiny_model()
    first, again, other = (generate(model, photograph(), rig(), seed=s).images for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("steps", [0, 51])
def test_steps_out_of_range_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="1 to 50 steps"):
        generate(tiny_model(), photograph(), rig(), steps=steps)


def test_sampling_integrates_the_flow_of_a_perfect_network() -> None:
    """With a network that knows the answer every number of steps ends exactly there."""
    answer = torch.rand(1, 6, 4, SIZE, SIZE) * 2 - 1

    class Oracle(Generator):
        def denoise(self, *_: object, **__: object) -> torch.Tensor:
            return answer

    model = Oracle(TINY)
    for steps in (1, 3, 16):
        made = generate(model, photograph(), rig(), steps=steps)
        torch.testing.assert_close(made.masks, (answer[:, :, 3:] + 1) / 2)


def test_encoding_round_trip_where_the_subject_is() -> None:
    view = photograph()
    back = decode_pixels(encode_pixels(view), view.cameras)
    torch.testing.assert_close(back.masks, view.masks)
    torch.testing.assert_close(back.images * view.masks, view.images * view.masks)


def test_background_colour_is_invisible_to_the_network() -> None:
    view = photograph()
    other = Views(images=torch.where(view.masks > 0, view.images, 0.9), masks=view.masks, cameras=view.cameras)
    assert torch.equal(encode_pixels(view), encode_pixels(other))


def test_loss_is_the_velocity_error() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise, predicted = (torch.randn(2, 3, 4, 8, 8, generator=generator) for _ in range(3))
    time = torch.tensor([0.0, 0.7])
    at = time.view(-1, 1, 1, 1, 1)
    noisy = at * clean + (1 - at) * noise
    velocity, predicted_velocity = clean - noise, (predicted - noisy) / (1 - at)
    expected = (velocity - predicted_velocity).square().flatten(1).mean(1)
    torch.testing.assert_close(flow_matching_loss(predicted, clean, time), expected, rtol=1e-4, atol=1e-4)


def test_weights_round_trip(tmp_path) -> None:
    model = tiny_model()
    save_weights(model, tmp_path / "generator.safetensors", {"step": 1})
    loaded = load_generator(tmp_path / "generator.safetensors", head_dim=32)
    assert loaded.config == TINY
    assert torch.equal(generate(loaded, photograph(), rig()).images, generate(model, photograph(), rig()).images)


def test_with_sparse_attention_a_wanted_view_does_not_see_the_others() -> None:
    view, cameras = photograph(), rig()
    noise = torch.randn(1, 6, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    time = torch.full((1,), 0.5)
    for attention, alone in (("sparse", True), ("dense", False)):
        torch.manual_seed(0)
        model = Generator(replace(TINY, attention=attention)).eval()
        together = model(noise, time, view, cameras)[:, :2]
        apart = model(noise[:, :2], time, view, cameras[:, :2])
        assert torch.allclose(together, apart, atol=1e-5) == alone, attention


def test_without_relative_rays_the_frame_of_the_scene_matters() -> None:
    turn = quat_to_rotmat(torch.tensor([0.8, 0.0, 0.0, 0.6]))
    turned = Similarity(scale=torch.ones(()), rotation=turn, translation=torch.zeros(3))
    view, cameras = photograph(), rig()
    torch.manual_seed(0)
    model = Generator(replace(TINY, relative_rays=False)).eval()
    here = generate(model, view, cameras)
    there = generate(model, replace(view, cameras=view.cameras.transformed(turned)), cameras.transformed(turned))
    assert not torch.allclose(here.images, there.images, atol=1e-3)


def test_ablations_survive_the_weights_file(tmp_path: Path) -> None:
    config = replace(TINY, relative_rays=False, attention="sparse")
    save_weights(Generator(config), tmp_path / "w.safetensors", {"model": asdict(config)})
    assert load_generator(tmp_path / "w.safetensors", head_dim=32).config == config


def guidable() -> Generator:
    torch.manual_seed(0)
    return Generator(replace(TINY, condition_dropout=0.1)).eval()


def guided(model: Generator, guidance: float, view: Views | None = None, steps: int = 3) -> Views:
    dice = torch.Generator().manual_seed(0)
    return model.generate(view or photograph(), rig(), steps=steps, guidance=guidance, generator=dice)


def test_guidance_zero_sees_no_picture_and_one_is_none() -> None:
    model = guidable()
    blank = replace(photograph(), masks=torch.zeros(1, 1, 1, SIZE, SIZE))
    torch.testing.assert_close(guided(model, 0.0).images, guided(model, 0.0, blank).images)
    torch.testing.assert_close(guided(model, 0.0).masks, guided(model, 1.0, blank).masks)
    assert not torch.allclose(guided(model, 1.0).masks, guided(model, 1.0, blank).masks)


def test_guidance_goes_on_from_without_past_with_the_picture() -> None:
    model, view, cameras = guidable(), photograph(), rig()
    noise = torch.randn(1, 6, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    time = torch.zeros(1)
    with_it, without = (model(noise, time, view, cameras, known=torch.tensor([known])) for known in (True, False))
    found = model.flow(noise, view, cameras, steps=1, guidance=2.5)
    torch.testing.assert_close(found, without + 2.5 * (with_it - without), atol=1e-5, rtol=1e-4)


def test_guidance_of_weights_that_always_saw_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="no guidance, which this generator was not trained for, found 2"):
        guided(tiny_model(), 2.0)


def test_two_halves_of_the_flow_are_the_whole() -> None:
    model, view, cameras = tiny_model(), photograph(), rig()
    noise = torch.randn(1, 6, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    half = model.flow(noise, view, cameras, steps=2, end=0.5)
    whole = model.flow(half, view, cameras, steps=2, start=0.5)
    torch.testing.assert_close(whole, model.flow(noise, view, cameras, steps=4))


def test_pictures_in_a_batch_are_made_as_each_alone() -> None:
    model, cameras = tiny_model(), rig()
    views = Views.cat([photograph(-90.0), photograph(-40.0)])
    noise = torch.randn(2, 6, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    together = model.flow(noise, views, Cameras.cat([cameras, cameras]), steps=2)
    for k in range(2):
        alone = model.flow(noise[k : k + 1], views[k : k + 1], cameras, steps=2)
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=1e-4)


def test_what_does_not_change_over_steps_is_looked_at_once(monkeypatch) -> None:
    model, looks = tiny_model(), []
    look = model.look
    monkeypatch.setattr(model, "look", lambda *args, **options: looks.append(1) or look(*args, **options))
    generate(model, photograph(), rig(), steps=5)
    assert len(looks) == 1
