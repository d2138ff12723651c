"""One picture to Gaussians with a tiny pipeckpts folder as the generator."""

import json
from pathlib import Path

import pytest
import torch
from models import random_models
from pipeckpts import SIZE, write_tiny_pipeckpts

from mouselift import cli
from mouselift.data.picture import Picture
from mouselift.errors import InputError
from mouselift.export.picture import write_png
from mouselift.geometry import Cameras, Views
from mouselift.geometry.rigs import azimuth_elevation_deg, mouse_rig
from mouselift.models.bundled import Models
from mouselift.models.checkpoint_io import save_weights
from mouselift.models.multiview import MultiViewGenerator, as_multiview, load_multiview
from mouselift.models.mvunet import stock
from mouselift.models.mvunet.pipeline import LatentGenerator
from mouselift.models.mvunet.unet import make_posed
from mouselift.reconstruct import ReconstructConfig, reconstruct

pytestmark = pytest.mark.skipif(
    not stock.is_available(), reason="the extra `diffusion` is not installed: pip install 'mouselift[diffusion]'"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_pipeckpts(tmp_path / "pipeckpts")


def picture() -> Picture:
    mask = torch.zeros(1, 100, 100)
    mask[:, 30:60, 20:80] = 1
    return Picture(image=torch.full((3, 100, 100), 0.4), mask=mask, source=Path("memory.png"))


def models(folder: Path, *, posed: bool) -> Models:
    others, generator = random_models(), load_multiview(folder)
    assert isinstance(generator, LatentGenerator)
    if posed:
        make_posed(generator.parts.unet)
    return Models(gslrm=others.gslrm, generator=generator, pose=others.pose)


def config(**values: float) -> ReconstructConfig:
    return ReconstructConfig(unseen="generator", steps=1, refine_steps=1, **values)


def test_a_folder_without_rays_gets_the_camera_it_takes_for_granted(folder: Path) -> None:
    result = reconstruct(picture(), config=config(), models=models(folder, posed=False))
    azimuths, elevations = azimuth_elevation_deg(result.context.cameras)
    assert result.context.images.shape == (7, 3, SIZE, SIZE)
    torch.testing.assert_close(elevations, torch.zeros(7), atol=1e-3, rtol=0)
    torch.testing.assert_close(result.context.cameras.fov_deg, torch.full((7, 2), 50.0), atol=0.5, rtol=0)
    offsets = (azimuths[1:] - azimuths[0] + 180) % 360 - 180
    torch.testing.assert_close(offsets.abs(), torch.tensor([0.0, 45, 90, 180, 90, 45]), atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="reads no rays"):
        reconstruct(picture(), config=config(elevation_deg=30.0), models=models(folder, posed=False))


def test_a_posed_folder_takes_the_picture_as_it_is(folder: Path) -> None:
    asked = config(elevation_deg=30.0, fov_deg=33.0, guidance=1.0)
    result = reconstruct(picture(), config=asked, models=models(folder, posed=True))
    _, elevations = azimuth_elevation_deg(result.context.cameras)
    assert float(elevations[0]) == pytest.approx(30.0, abs=1e-3)
    torch.testing.assert_close(elevations[1:], torch.zeros(6), atol=1e-3, rtol=0)


def test_the_shipped_generator_has_no_guidance_and_few_steps() -> None:
    generator = as_multiview(random_models().generator, 32)
    with pytest.raises(InputError, match="expected no guidance"):
        generator.generate(*asked_of(generator), guidance=3.0)
    with pytest.raises(InputError, match="expected 1 to 50 steps, found 51"):
        generator.generate(*asked_of(generator), steps=51)


def asked_of(generator: MultiViewGenerator) -> tuple[Views, Cameras]:
    rig, side = mouse_rig(size_px=generator.size_px), generator.size_px
    return Views(images=torch.rand(1, 3, side, side), masks=torch.ones(1, 1, side, side), cameras=rig[:1]), rig


def test_on_the_command_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture()
    assert image.mask is not None
    write_png(torch.cat([image.image, image.mask]), tmp_path / "mouse.png")
    arguments = ["reconstruct", str(tmp_path / "mouse.png"), "-o", str(tmp_path / "out"), "--unseen", "generator"]
    arguments += ["--generator", str(folder), "--steps", "1", "--refine", "1"]
    others = random_models()
    for name in ("gslrm", "pose"):
        save_weights(getattr(others, name), tmp_path / f"{name}.safetensors", {})
        arguments += [f"--{name}", str(tmp_path / f"{name}.safetensors")]
    monkeypatch.setattr("sys.argv", ["mouselift", *arguments])
    cli.main()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]["steps"] == 1
