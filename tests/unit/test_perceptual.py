"""Perceptual distances: the reference's own numbers, names that tell them apart, files that are refused."""

from pathlib import Path

import pytest
import torch
from skimage import data
from torch import Tensor
from torch.nn import functional as F

from mouselift.errors import InputError
from mouselift.metrics import lpips_fg
from mouselift.perceptual import LPIPS, VGG19Distance, load_perceptual
from mouselift.perceptual.backbones import Backbone
from mouselift.perceptual.load import FACELIFT_PREFIX


def astronaut() -> Tensor:
    return torch.from_numpy(data.astronaut()[64:160, 192:288]).permute(2, 0, 1)[None].float() / 255


def torchvision_file(path: Path, kind: str = "alex") -> Path:
    """Random weights under torchvision's names, with a classifier that is not used."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = Backbone(kind).state_dict()
    torch.save({**state, "classifier.1.weight": torch.zeros(2, 2)}, path)
    return path


def small_pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 48, 48, generator=generator), torch.rand(2, 3, 48, 48, generator=generator)


# What stlpips-pytorch 0.0.2 itself gives for these pairs (AlexNet).
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x, 0.0),
        (lambda x: x.roll(1, -1), 0.005712),
        (lambda x: x.flip(-1), 0.365448),
        (lambda x: F.avg_pool2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), 7, 1), 0.532737),
    ],
)
def test_st_lpips_gives_the_numbers_of_its_package(change, expected: float) -> None:
    name, distance = load_perceptual()
    picture = astronaut()
    assert name == "st_lpips"
    assert float(distance(picture, change(picture))) == pytest.approx(expected, abs=2e-6)


def test_the_name_says_which_distance_it_is(tmp_path: Path) -> None:
    name, distance = load_perceptual(torchvision_file(tmp_path / "alexnet.pth"))
    assert (name, distance.title) == ("lpips", "LPIPS (AlexNet)")
    name, distance = load_perceptual()
    assert (name, distance.title) == ("st_lpips", "ST-LPIPS (AlexNet)")


def test_facelift_checkpoint_gives_its_training_loss(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VGG19Distance()
    assert len(network.state_dict()) == 32
    assert sum(p.numel() for p in network.parameters()) == 20_024_384
    state = {f"module.{FACELIFT_PREFIX}{key}": value for key, value in network.state_dict().items()}
    torch.save({"model": {**state, "module.input_layer_norm.weight": torch.ones(3)}}, tmp_path / "ckpt.pt")
    name, loaded = load_perceptual(tmp_path / "ckpt.pt")
    a, b = (t[:1, :, :32, :32] for t in small_pair())
    assert name == "vgg19"
    assert torch.equal(loaded(a, b), network(a, b))


def test_vgg19_distance_begins_with_the_pixels() -> None:
    network = VGG19Distance()
    for parameter in network.parameters():
        parameter.zero_()
    a, b = small_pair()
    torch.testing.assert_close(network(a, b), (a - b).abs().mean((1, 2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["alex", "st_alex"])
def test_zero_symmetric_and_its_gradient_finite(kind: str) -> None:
    distance = LPIPS(Backbone(kind))
    for head in distance.heads:
        head.fill_(1.0)
    a, b = small_pair()
    assert float(distance(a, a).max()) == 0
    torch.testing.assert_close(distance(a, b), distance(b, a))
    black = torch.zeros_like(a).requires_grad_()
    distance(black, b).sum().backward()
    assert black.grad is not None
    assert bool(torch.isfinite(black.grad).all())
    assert all(parameter.grad is None for parameter in distance.parameters())


def test_foreground_form_sees_only_what_the_mask_shows() -> None:
    _, distance = load_perceptual()
    a, b = (t[:1] for t in small_pair())
    masks = torch.zeros(1, 1, 48, 48)
    masks[..., :8, :8] = 1
    everywhere = lpips_fg(a, b, torch.ones_like(masks), distance)
    torch.testing.assert_close(everywhere, distance.map(a, b).mean((1, 2, 3)))
    assert float(lpips_fg(a, b, masks, distance)) == pytest.approx(
        float(distance.map(a, b)[..., :8, :8].mean()), rel=1e-5
    )
    assert bool(lpips_fg(a, b, torch.zeros_like(masks), distance).isnan())


def test_batches_of_any_shape(tmp_path: Path) -> None:
    _, distance = load_perceptual(torchvision_file(tmp_path / "alexnet.pth"))
    a, b = small_pair()
    assert distance(a[:, None], b[:, None]).shape == (2, 1)
    torch.testing.assert_close(distance(a[:, None], b[:, None]).flatten(), distance(a, b))


@pytest.mark.parametrize(
    "content",
    [
        {"layer.weight": torch.zeros(2, 2)},
        {"features.0.weight": torch.zeros(64, 3, 3, 3)},
        {f"{FACELIFT_PREFIX}conv1.weight": torch.zeros(64, 3, 3, 3)},
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: dict) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match="expected") as error:
        load_perceptual(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_without_the_package_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"mouselift\[perceptual\]"):
        load_perceptual()
