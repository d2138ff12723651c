"""The multi-view generator: invariance, sampling, encoding, loss."""

from dataclasses import replace

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


def test_only_relative_cameras_matter() -> None:
    """Moving the world (a rotation and a shift, no scale) changes nothing: only relative rays enter."""
    quat = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.7, 0.2]), dim=0)
    moved = Similarity(scale=torch.ones(()), rotation=quat_to_rotmat(quat), translation=torch.tensor([1.0, -2.0, 0.5]))
    view, cameras, model = photograph(), rig(), tiny_model()
    view_moved = replace(view, cameras=view.cameras.transformed(moved))
    plain = generate(model, view, cameras)
    turned = generate(model, view_moved, cameras.transformed(moved))
    torch.testing.assert_close(plain.images, turned.images, atol=1e-4, rtol=1e-4)


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
        def forward(self, *_: object, **__: object) -> torch.Tensor:
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
