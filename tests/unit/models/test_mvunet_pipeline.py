"""From a pipeckpts folder to views: files, conditioning, sampling, cameras."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pipeckpts import EMBEDDING, EXTRACTOR, NOISING, SIZE, TOKENS, WIDTH, write_tiny_pipeckpts
from safetensors.torch import load_file, save_file

from mouselift.errors import InputError
from mouselift.geometry import Cameras, Similarity, Views
from mouselift.geometry.rigs import FACELIFT_AZIMUTHS_DEG, facelift_rig, orbit
from mouselift.geometry.transforms import quat_to_rotmat
from mouselift.models.mvunet import pipeline, stock
from mouselift.models.mvunet.conditioning import (
    clip_pixels,
    image_conditioning,
    relative_rays,
    view_words,
)
from mouselift.models.mvunet.folder import Parts, load_pipeckpts, save_pipeckpts
from mouselift.models.mvunet.matte import cut_out
from mouselift.models.mvunet.pipeline import LatentGenerator
from mouselift.models.mvunet.unet import make_posed

pytestmark = pytest.mark.skipif(
    not stock.is_available(), reason="the extra `diffusion` is not installed: pip install 'mouselift[diffusion]'"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeckpts(tmp_path_factory.mktemp("mvunet") / "pipeckpts")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "pipeckpts"))


@pytest.fixture
def parts(written: Path) -> Parts:
    return load_pipeckpts(written)


RIG = facelift_rig(size_px=SIZE)


def picture(camera: Cameras = RIG[:1], seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(1, 1, SIZE, SIZE)
    masks[..., 4:12, 4:12] = 1
    return Views(images=torch.rand(1, 3, SIZE, SIZE, generator=generator), masks=masks, cameras=camera)


def make(parts: Parts, view: Views | None = None, rig: Cameras = RIG, seed: int = 0, guidance: float = 3.0) -> Views:
    generator = LatentGenerator(parts=parts)
    return generator.generate(picture() if view is None else view, rig, steps=2, guidance=guidance, seed=seed)


# ---- the folder


def test_loads_runs_and_saves_and_loads_again(parts: Parts, tmp_path: Path) -> None:
    made = make(parts)
    assert made.cameras is RIG
    assert made.images.shape == (6, 3, SIZE, SIZE)
    save_pipeckpts(parts, tmp_path / "again")
    assert torch.equal(make(load_pipeckpts(tmp_path / "again")).images, made.images)


def test_rays_are_saved_and_say_so_in_the_configuration(parts: Parts, tmp_path: Path) -> None:
    make_posed(parts.unet)
    parts.unet.conv_in.rays.weight.data.normal_()
    save_pipeckpts(parts, tmp_path / "posed")
    assert json.loads((tmp_path / "posed" / "unet" / "config.json").read_text())["ray_channels"] == 6
    assert torch.equal(make(load_pipeckpts(tmp_path / "posed")).images, make(parts).images)


def test_bin_files_are_read_as_tensors_only(folder: Path, parts: Parts) -> None:
    for name in ("unet", "vae", "image_normalizer"):
        weights = folder / name / "diffusion_pytorch_model.safetensors"
        torch.save(load_file(weights), weights.with_suffix(".bin"))
        weights.unlink()
    assert torch.equal(make(load_pipeckpts(folder)).images, make(parts).images)
    torch.save(np.array([1.0]), folder / "unet" / "diffusion_pytorch_model.bin")  # a pickled object
    with pytest.raises(InputError, match=r"unet/diffusion_pytorch_model\.bin: expected"):
        load_pipeckpts(folder)


def test_old_names_of_the_autoencoder_are_understood(folder: Path, parts: Parts) -> None:
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    state = {}
    for key, value in load_file(path).items():
        for new, old in names.items():
            key = key.replace(new, old)
        state[key] = value
    assert any(".proj_attn." in key for key in state)
    save_file(state, path)
    assert torch.equal(make(load_pipeckpts(folder)).images, make(parts).images)


def test_our_text_file_and_a_named_one(folder: Path, parts: Parts, tmp_path: Path) -> None:
    (folder / "clr_embeds.pt").rename(tmp_path / "elsewhere.pt")
    with pytest.raises(InputError, match=r"found no clr_embeds\.pt; clr_embeds\.pt comes with FaceLift's code"):
        load_pipeckpts(folder)
    assert torch.equal(load_pipeckpts(folder, text=tmp_path / "elsewhere.pt").view_text, parts.view_text)
    save_file({"view_text": parts.view_text}, folder / "view_text.safetensors")
    assert torch.equal(load_pipeckpts(folder).view_text, parts.view_text)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["vae/config.json"], "expected a pipeckpts folder, found no vae/config.json"),
        (
            ["unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"],
            "no scheduler/scheduler_config.json, no unet/diffusion_pytorch_model.safetensors",
        ),
    ],
)
def test_a_partial_folder_says_what_is_missing_in_one_line(folder: Path, missing: list[str], message: str) -> None:
    for name in missing:
        (folder / name).unlink()
    with pytest.raises(InputError, match=message) as caught:
        load_pipeckpts(folder)
    assert "\n" not in str(caught.value)


def test_wrong_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a pipeckpts folder, found none at"):
        load_pipeckpts(tmp_path / "nowhere")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    save_file({key: value for key, value in state.items() if key != "conv_out.bias"}, path)
    with pytest.raises(InputError, match=r"unet/diffusion_pytorch_model.*missing conv_out\.bias"):
        load_pipeckpts(folder)
    save_file(state, path)
    (folder / "scheduler" / "scheduler_config.json").write_text("{")
    with pytest.raises(InputError, match=r"scheduler_config\.json: expected JSON"):
        load_pipeckpts(folder)


def test_parts_that_do_not_belong_together_are_refused(folder: Path) -> None:
    wide = {"mean": torch.zeros(1, EMBEDDING + 1), "std": torch.ones(1, EMBEDDING + 1)}
    save_file(wide, folder / "image_normalizer" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InputError, match="expected an image embedding of one width in all parts"):
        load_pipeckpts(folder)


def test_text_of_another_encoder_is_refused(folder: Path) -> None:
    torch.save(torch.zeros(6, TOKENS, WIDTH + 1), folder / "clr_embeds.pt")
    with pytest.raises(InputError, match=r"expected text embeddings \(6, tokens, 16\), found \(6, 5, 17\)"):
        load_pipeckpts(folder)


# ---- what the network is told


def test_pictures_reach_clip_as_its_own_extractor_makes_them(generator: torch.Generator) -> None:
    """Against Pillow, which upstream's extractor uses."""
    pixels = (60 + torch.rand(40, 60, 3, generator=generator) * 130).byte()  # no overshoot to clip between its passes
    pixels = pixels.repeat_interleave(3, 0).repeat_interleave(3, 1)
    resized = np.asarray(Image.fromarray(pixels.numpy()).resize((42, 28), Image.Resampling.BICUBIC))[:, 7:35] / 255
    expected = (resized - EXTRACTOR["image_mean"]) / EXTRACTOR["image_std"]
    found = clip_pixels(pixels.movedim(-1, 0)[None] / 255, EXTRACTOR)[0].movedim(0, -1).numpy()
    assert np.abs(found - expected).max() <= 1.01 / 255 / min(EXTRACTOR["image_std"])


def test_noise_of_level_0_is_small_but_there(parts: Parts, generator: torch.Generator) -> None:
    embedding = torch.randn(2, EMBEDDING, generator=generator)
    noise = torch.randn(2, 3, EMBEDDING, generator=generator)
    told = image_conditioning(parts, embedding, noise)
    level = told[..., EMBEDDING:]
    assert torch.equal(level[..., : EMBEDDING // 2], torch.ones(2, 3, EMBEDDING // 2))
    assert not level[..., EMBEDDING // 2 :].any()
    mean, std = parts.embedding_mean, parts.embedding_std
    clean = stock.alphas_cumprod(NOISING)[0]
    torch.testing.assert_close(float(clean**0.5), 0.99998, atol=1e-5, rtol=0)
    sigma = (told[..., :EMBEDDING] - mean - clean**0.5 * (embedding[:, None] - mean)) / std / noise
    torch.testing.assert_close(sigma, torch.full_like(sigma, 0.0064), atol=1e-3, rtol=0)


def test_words_of_the_published_rig_in_order_and_of_others_by_azimuth() -> None:
    given = RIG[:1].reshape(1, 1)
    assert view_words(RIG.reshape(1, 6), given).tolist() == [[0, 1, 2, 3, 4, 5]]
    cameras = orbit([-90 + 20.0, -90 - 30.0, -90 + 170.0], 40.0, size_px=SIZE).reshape(1, 3)
    names = [list(FACELIFT_AZIMUTHS_DEG)[i] for i in view_words(cameras, given)[0]]
    assert names == ["front", "front_right", "back"]


def test_rays_do_not_change_when_the_scene_turns_about_the_vertical() -> None:
    turn = Similarity(
        scale=torch.ones(()),
        rotation=quat_to_rotmat(torch.tensor([0.8, 0.0, 0.0, 0.6])),
        translation=torch.zeros(3),
    )
    wanted, given = RIG.reshape(1, 6), orbit([10.0], 30.0, size_px=SIZE).reshape(1, 1)
    rays = relative_rays(wanted, given, 2)
    assert rays.shape == (1, 6, 6, SIZE // 2, SIZE // 2)
    torch.testing.assert_close(
        relative_rays(wanted.transformed(turn), given.transformed(turn), 2), rays, atol=1e-5, rtol=0
    )
    assert not torch.allclose(relative_rays(wanted.transformed(turn), given, 2), rays, atol=0.1)


# ---- sampling


def test_untrained_rays_change_no_bit_of_the_views(parts: Parts) -> None:
    before = make(parts)
    make_posed(parts.unet)
    assert torch.equal(make(parts).images, before.images)


def test_same_seed_same_views_and_guidance_and_picture_matter(parts: Parts) -> None:
    first, again = make(parts, seed=3), make(parts, seed=3)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(make(parts, seed=4).images, first.images)
    assert not torch.equal(make(parts, seed=3, guidance=1.0).images, first.images)
    assert not torch.equal(make(parts, picture(seed=9), seed=3).images, first.images)


def test_a_picture_does_not_depend_on_those_beside_it(parts: Parts) -> None:
    views = [picture(seed=i) for i in range(2)]
    apart = [make(parts, view, seed=i).images for i, view in enumerate(views)]
    together = LatentGenerator(parts=parts).generate_batch(
        Views.stack(views),
        Cameras.cat([RIG.reshape(1, 6)] * 2),
        steps=2,
        guidance=3.0,
        seeds=[0, 1],
    )
    torch.testing.assert_close(together.images, torch.stack(apart), atol=2e-4, rtol=0)


def test_rigs_with_and_without_the_input_view_do_not_share_a_batch(parts: Parts) -> None:
    make_posed(parts.unet)
    views = Views.stack([picture(), picture(orbit([50.0], 20.0, size_px=SIZE))])
    rigs = Cameras.cat([RIG.reshape(1, 6)] * 2)
    with pytest.raises(ValueError, match="begin with the input view"):
        LatentGenerator(parts=parts).generate_batch(views, rigs, steps=1, guidance=1.0, seeds=[0, 1])


def test_picture_is_encoded_once_and_not_once_a_view(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[int]] = {"encode": [], "embed": []}
    encode, embed = pipeline.encode_pictures, pipeline.embed_pictures

    def encode_and_count(parts: Parts, images: torch.Tensor, batch: int) -> torch.Tensor:
        seen["encode"].append(len(images))
        return encode(parts, images, batch)

    def embed_and_count(parts: Parts, images: torch.Tensor) -> torch.Tensor:
        seen["embed"].append(len(images))
        return embed(parts, images)

    monkeypatch.setattr(pipeline, "encode_pictures", encode_and_count)
    monkeypatch.setattr(pipeline, "embed_pictures", embed_and_count)
    make(parts)
    assert seen == {"encode": [1], "embed": [1]}


def test_a_posed_generator_makes_any_rig_from_any_view(parts: Parts) -> None:
    make_posed(parts.unet)
    rig = orbit([0.0, 120.0], 25.0, radius=2.2, fov_deg=33, size_px=SIZE)
    made = make(parts, picture(orbit([77.0], 60.0, fov_deg=30, size_px=SIZE)), rig)
    assert made.cameras is rig
    assert made.images.shape == (2, 3, SIZE, SIZE)


@pytest.mark.parametrize("moved", ["picture", "rig", "order"])
def test_a_generator_without_rays_refuses_other_cameras(parts: Parts, moved: str) -> None:
    camera, rig = RIG[:1], RIG
    if moved == "picture":
        camera = orbit([-90.0], 20.0, size_px=SIZE)
    elif moved == "rig":
        rig = facelift_rig(elevation_deg=20.0, size_px=SIZE)
    else:
        rig = RIG[[0, 5, 4, 3, 2, 1]]
    with pytest.raises(InputError, match="reads no rays: expected a picture from elevation 0"):
        make(parts, picture(camera), rig)


@pytest.mark.parametrize(("steps", "guidance"), [(0, 3.0), (1001, 3.0), (2, -1.0)])
def test_numbers_out_of_range_are_refused(parts: Parts, steps: int, guidance: float) -> None:
    with pytest.raises(InputError, match="expected"):
        LatentGenerator(parts=parts).generate(picture(), RIG, steps=steps, guidance=guidance)


def test_sampling_ends_at_the_answer_of_a_network_that_knows_it(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """v = sqrt(a) noise - sqrt(1 - a) clean: a network that says so at every step leads to the clean latents."""
    answer = torch.randn(1, 6, 4, SIZE // 2, SIZE // 2)
    alphas = stock.alphas_cumprod(parts.configs["scheduler"])

    def knows(told, unet, noisy, time):
        a = alphas[time.long()].view(-1, 1, 1, 1, 1)
        noise = (noisy - a**0.5 * answer) / (1 - a) ** 0.5
        return a**0.5 * noise - (1 - a) ** 0.5 * answer

    monkeypatch.setattr(pipeline.Conditioning, "predict", knows)
    found = []
    monkeypatch.setattr(
        pipeline, "decode_latents", lambda parts, latents, batch: found.append(latents) or torch.rand(6, 3, SIZE, SIZE)
    )
    LatentGenerator(parts=parts).generate(picture(), RIG, steps=20)
    # The last step goes to alpha 0.99915, upstream's final one, and eta 1 adds its noise: sqrt(1 - 0.99915) = 0.029.
    residual = found[0] - 0.99915**0.5 * answer[0]
    assert float(residual.square().mean().sqrt()) < 0.035


# ---- alpha


def test_cut_out_keeps_a_white_belly_and_takes_the_background_away() -> None:
    picture_of_ring = torch.ones(1, 3, 32, 32)
    picture_of_ring[..., 8:24, 8:24] = 0.3
    picture_of_ring[..., 12:20, 12:20] = 1.0
    images, masks = cut_out(picture_of_ring + 0.01, 1.0)
    expected = torch.zeros(1, 1, 32, 32)
    expected[..., 8:24, 8:24] = 1
    assert torch.equal(masks, expected)
    back = images * masks + 1 - masks
    torch.testing.assert_close(back, picture_of_ring, atol=0.011, rtol=0)


def test_a_generated_edge_composites_back_to_what_was_generated() -> None:
    alpha = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    seen = 0.2 * alpha + 1 - alpha
    images, masks = cut_out(seen.expand(1, 3, 32, 32), 1.0)
    torch.testing.assert_close(images * masks + 1 - masks, seen.expand(1, 3, 32, 32), atol=0.06, rtol=0)


def test_generated_views_are_made_on_the_chosen_background(parts: Parts) -> None:
    grey = replace(LatentGenerator(parts=parts), background=0.5)
    white = LatentGenerator(parts=parts)
    assert not torch.equal(
        grey.generate(picture(), RIG, steps=1).images, white.generate(picture(), RIG, steps=1).images
    )
