"""Training of the multi-view diffusion: what is learned, weights of the loss, null conditions, kept features."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pipeckpts import EMBEDDING, SCHEDULER, SIZE, write_tiny_pipeckpts
from safetensors.torch import load_file

from mouselift.config import load_config
from mouselift.data.layout import Sample, write_dataset, write_sample
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Similarity, Views
from mouselift.geometry.rigs import orbit
from mouselift.models.checkpoint_io import save_weights
from mouselift.models.mvunet import stock
from mouselift.models.mvunet.conditioning import embed_pictures, encode_pictures
from mouselift.models.mvunet.folder import Parts, RigConfig, load_pipeckpts
from mouselift.models.mvunet.objective import min_snr_weights, noised, target
from mouselift.models.mvunet.pipeline import LatentGenerator
from mouselift.models.mvunet.unet import RAY_KEY
from mouselift.train import mvunet_features
from mouselift.train.mvunet_features import FeatureSource
from mouselift.train.mvunet_task import MVUNetConfig, MVUNetTask, MVUNetTaskConfig, dropped
from mouselift.train.run import DataConfig, MVUNetTraining, TrainConfig, run_training
from mouselift.train.run_config import RunConfig

pytestmark = pytest.mark.skipif(
    not stock.is_available(), reason="the extra `diffusion` is not installed: pip install 'mouselift[diffusion]'"
)
CPU = torch.device("cpu")
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeckpts(tmp_path_factory.mktemp("mvunet_task") / "pipeckpts")


def sample(seed: int = 0, elevation_deg: float = 0.0) -> Sample:
    """Eight views of a coloured blob on FaceLift's ring, and two free ones."""
    generator = torch.Generator().manual_seed(seed)
    names = [f"ring_{i}" for i in range(8)]
    ring = orbit([45.0 * i - 90 for i in range(8)], elevation_deg, size_px=SIZE, names=names)
    free = orbit([10.0, 200.0], [40.0, 70.0], fov_deg=30, size_px=SIZE, names=["framed_0", "framed_1"])
    masks = torch.zeros(10, 1, SIZE, SIZE)
    masks[..., 4:12, 4:12] = 1
    images = torch.rand(10, 3, 1, 1, generator=generator).expand(10, 3, SIZE, SIZE)
    similarity = Similarity(scale=torch.tensor(0.01), rotation=torch.eye(3), translation=torch.zeros(3))
    return Sample(
        sample_id=f"sample_{seed}",
        frame_index=seed,
        scene_from_world=similarity,
        views=Views(images=images, masks=masks, cameras=Cameras.cat([ring, free])),
        extra={},
    )


def make_task(folder: Path, *, rays: bool = True, low_rank: int = 0, **task: object) -> MVUNetTask:
    torch.manual_seed(0)
    model = MVUNetConfig(pipeckpts=str(folder), rays=rays, low_rank=low_rank, recompute=False)
    return MVUNetTask(model, MVUNetTaskConfig(validation_steps=2, **task), bf16=False)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- the objective


def test_weights_are_the_closed_form() -> None:
    alpha = torch.tensor([0.0058, 0.2, 0.5, 0.9, 0.999])
    snr = alpha / (1 - alpha)
    capped = torch.minimum(snr, torch.tensor(5.0))
    matched = min_snr_weights(alpha, 5.0, "v_prediction", "matched")
    torch.testing.assert_close(matched, capped / (snr + 1))
    torch.testing.assert_close(min_snr_weights(alpha, 5.0, "epsilon", "matched"), capped / snr)
    torch.testing.assert_close(min_snr_weights(alpha, 5.0, "v_prediction", "upstream"), capped / snr)


def test_weights_over_the_published_schedule() -> None:
    """Means over all steps as counted upstream: 0.917 for its form, 0.294 for the right one."""
    alphas = stock.alphas_cumprod(SCHEDULER)
    assert float(min_snr_weights(alphas, 5.0, "v_prediction", "upstream").mean()) == pytest.approx(0.917, abs=1e-3)
    assert float(min_snr_weights(alphas, 5.0, "v_prediction", "matched").mean()) == pytest.approx(0.294, abs=1e-3)
    assert float(min_snr_weights(alphas[500:501], 5.0, "v_prediction", "matched")) == pytest.approx(0.28, abs=0.01)


def test_velocity_and_noise_weigh_an_error_of_the_clean_latent_alike() -> None:
    """The same wrong guess of the clean latent costs the same in both forms: min(SNR, gamma) times its square."""
    clean, noise, guess = (torch.randn(3, 2, 4, 8, 8, generator=seeded(i)) for i in range(3))
    alpha = torch.tensor([0.01, 0.4, 0.97])
    noisy, at = noised(clean, noise, alpha), alpha.view(-1, 1, 1, 1, 1)
    guessed_noise = (noisy - at.sqrt() * guess) / (1 - at).sqrt()
    expected = (alpha / (1 - alpha)).clamp_max(5.0) * (guess - clean).square().flatten(1).mean(1)
    for prediction, said in (
        ("epsilon", guessed_noise),
        ("v_prediction", target(guess, guessed_noise, alpha, "v_prediction")),
    ):
        error = (said - target(clean, noise, alpha, prediction)).square().flatten(1).mean(1)
        found = min_snr_weights(alpha, 5.0, prediction, "matched") * error
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


# ---- conditions


def test_each_kind_of_withholding_has_its_share() -> None:
    config = MVUNetTaskConfig(drop_image=0.1, drop_both=0.2, drop_latent=0.3)
    image, latent = dropped(20_000, config, seeded())
    kinds = {"image": image & ~latent, "both": image & latent, "latent": latent & ~image}
    shares = {name: float(which.float().mean()) for name, which in kinds.items()}
    assert shares == pytest.approx({"image": 0.1, "both": 0.2, "latent": 0.3}, abs=0.01)


def test_withheld_pictures_are_the_null_condition_and_words_and_rays_stay(folder: Path) -> None:
    _, full = make_task(folder, drop_image=0, drop_both=0, drop_latent=0)._examples([sample()], seeded(), CPU)
    _, null = make_task(folder, drop_image=0, drop_both=1, drop_latent=0)._examples([sample()], seeded(), CPU)
    assert full.latent.any()
    assert full.image.any()
    assert not null.latent.any()
    assert not null.image.any()
    assert torch.equal(null.text, full.text)
    assert torch.equal(null.rays, full.rays)
    unguided = full.guided()
    assert torch.equal(unguided.image[:1], null.image)
    assert torch.equal(unguided.latent[:1], null.latent)


def test_the_input_view_is_the_first_wanted_one(folder: Path) -> None:
    """So the network also learns to give its input back."""
    latents, told = make_task(folder, drop_image=0, drop_both=0, drop_latent=0)._examples([sample()], seeded(), CPU)
    assert torch.equal(told.latent[:, 0], latents[:, 0])
    assert torch.equal(told.latent[:, 5], latents[:, 0])


def test_noise_differs_between_views_and_objects_and_follows_the_generator(folder: Path, monkeypatch) -> None:
    task, drawn = make_task(folder), []
    from mouselift.train import mvunet_task

    def remember(clean, noise, alpha):
        drawn.append(noise)
        return noised(clean, noise, alpha)

    monkeypatch.setattr(mvunet_task, "noised", remember)
    samples = [sample(0), sample(1)]
    losses = [float(task.loss(samples, seeded(s))[0].detach()) for s in (0, 0, 1)]
    flat = drawn[0].flatten(0, 1).flatten(1)
    assert float((torch.corrcoef(flat) - torch.eye(len(flat))).abs().max()) < 0.4  # of 256 numbers each
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert losses[0] == losses[1] != losses[2]


def test_any_camera_can_be_the_input_with_rays(folder: Path) -> None:
    task, generator = make_task(folder, num_views=3), seeded()
    chosen = [task._choose(sample(), generator) for _ in range(40)]
    assert {c[0] for c in chosen} == set(range(10))
    assert all(len(set(c)) == 3 for c in chosen)


def test_without_rays_the_six_views_of_the_rig_are_required(folder: Path) -> None:
    task = make_task(folder, rays=False)
    chosen = task._choose(sample(), seeded())
    front = chosen[0]
    assert chosen == [(front + turn) % 8 for turn in (0, -1, -2, 4, 2, 1)]
    with pytest.raises(InputError, match=r"sample_0: expected FaceLift's six views at elevation 0 .*rays=true"):
        task._choose(sample(elevation_deg=20.0), seeded())
    at_20 = MVUNetTask(
        MVUNetConfig(pipeckpts=str(folder), rays=False, rig=RigConfig(elevation_deg=20.0)),
        MVUNetTaskConfig(),
        bf16=False,
    )
    assert len(at_20._choose(sample(elevation_deg=20.0), seeded())) == 6


# ---- learning


@pytest.mark.parametrize("low_rank", [0, 4])
def test_a_few_steps_lower_the_loss_on_one_sample(folder: Path, low_rank: int) -> None:
    task = make_task(folder, low_rank=low_rank, num_views=3, backgrounds=(1.0,), drop_image=0, drop_both=0)
    trained = [p for p in task.model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.01)
    frozen = {n: p.clone() for n, p in task.model.named_parameters() if not p.requires_grad}
    losses = []
    for _ in range(10):
        loss, _ = task.loss([sample()], seeded())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert task.model.state_dict()[RAY_KEY].any()
    assert all(torch.equal(p, task.model.get_parameter(n)) for n, p in frozen.items())
    assert bool(frozen) == bool(low_rank)


@pytest.mark.parametrize("low_rank", [0, 2])
def test_kept_weights_become_a_folder_that_makes_the_same_views(folder: Path, tmp_path: Path, low_rank: int) -> None:
    task = make_task(folder, low_rank=low_rank)
    for name, parameter in task.model.named_parameters():
        if parameter.requires_grad and (low_rank or name == RAY_KEY):
            parameter.data.normal_(std=0.1)
    save_weights(task.model, tmp_path / "final.safetensors", {})
    task.export(tmp_path / "final.safetensors", tmp_path / "pipeckpts")
    views = sample().views
    rig = views.cameras[[8, 0, 3]]
    made, again = (
        LatentGenerator(parts=parts).generate(views[[8]], rig, steps=2)
        for parts in (replace(task.parts, unet=task.model.eval()), load_pipeckpts(tmp_path / "pipeckpts"))
    )
    torch.testing.assert_close(again.images, made.images, atol=1e-3, rtol=0)


def test_validation_has_figures_beside_blank_and_a_picture(folder: Path) -> None:
    task = make_task(folder, num_views=3)
    figures, panel = task.validate(task.model.eval(), [sample(), sample(1)])
    assert set(figures) == {"psnr_fg", "blank_psnr_fg", "iou_alpha"}
    assert panel.shape == (3, 2 * 2 * SIZE, 3 * SIZE)


def test_a_folder_to_start_from_is_required() -> None:
    with pytest.raises(InputError, match=r"expected mvunet\.model\.pipeckpts=FOLDER"):
        MVUNetTask(MVUNetConfig(), MVUNetTaskConfig(), bf16=False)


# ---- features on disk


def count_encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls = []

    def counted(parts: Parts, images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return encode_pictures(parts, images)

    monkeypatch.setattr(mvunet_features, "encode_pictures", counted)
    return calls


def test_kept_features_are_those_computed_and_are_computed_once(folder: Path, tmp_path: Path, monkeypatch) -> None:
    parts = load_pipeckpts(folder)
    calls = count_encodings(monkeypatch)
    fresh, kept = FeatureSource(parts, None), FeatureSource(parts, tmp_path)
    for chosen in ([3, 1], [9, 0, 2]):
        expected, found = (source(sample(), chosen, 0.5, CPU) for source in (fresh, kept))
        torch.testing.assert_close(found.latents, expected.latents, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.embedding, expected.embedding, atol=1e-5, rtol=1e-5)
    assert calls == [2, 10, 3]
    again = FeatureSource(parts, tmp_path)(sample(), [3, 1], 0.5, CPU)
    assert torch.equal(again.latents, kept(sample(), [3, 1], 0.5, CPU).latents)
    assert calls == [2, 10, 3]


def test_other_pictures_backgrounds_or_weights_get_other_files(folder: Path, tmp_path: Path, monkeypatch) -> None:
    parts, calls = load_pipeckpts(folder), count_encodings(monkeypatch)
    kept = FeatureSource(parts, tmp_path)
    kept(sample(), [0], 1.0, CPU)
    kept(sample(), [0], 0.0, CPU)
    kept(replace(sample(1), sample_id="sample_0"), [0], 1.0, CPU)
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 3
    other = load_pipeckpts(folder)
    other.vae.encoder.conv_in.bias.data.add_(1e-3)
    FeatureSource(other, tmp_path)(sample(), [0], 1.0, CPU)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(calls) == 4


def test_damaged_features_are_named(folder: Path, tmp_path: Path) -> None:
    kept = FeatureSource(load_pipeckpts(folder), tmp_path)
    kept(sample(), [0], 1.0, CPU)
    (path,) = tmp_path.glob("*/*.safetensors")
    path.write_bytes(b"half a file")
    with pytest.raises(InputError, match=path.name):
        kept(sample(), [0], 1.0, CPU)


def test_embedding_is_that_of_the_input_view(folder: Path) -> None:
    parts = load_pipeckpts(folder)
    found = FeatureSource(parts, None)(sample(), [4, 0], 1.0, CPU)
    shown = sample().views[[4]].over(torch.ones(3)).images
    assert found.embedding.shape == (EMBEDDING,)
    torch.testing.assert_close(found.embedding, embed_pictures(parts, shown)[0])


# ---- the run


def test_a_run_resumes_bit_for_bit_and_ends_with_a_folder(folder: Path, tmp_path: Path) -> None:
    names = [f"sample_{i:06d}" for i in range(2)]
    for index, name in enumerate(names):
        made = sample(index)
        write_sample(
            tmp_path / "data" / name,
            made.views,
            sample_id=name,
            frame_index=index,
            scene_from_world=made.scene_from_world,
        )
    write_dataset(tmp_path / "data", {"train": names[:1], "val": names[1:]}, {})
    run = RunConfig(
        steps=2,
        accumulation=1,
        warmup_steps=1,
        final_rate_share=1.0,
        log_every=1,
        validate_every=2,
        validation_samples=1,
        skip_norm=1e6,
        bf16=False,
        workers=0,
        trackers=(),
    )
    config = TrainConfig(
        data=DataConfig(root=str(tmp_path / "data")),
        mvunet=MVUNetTraining(
            model=MVUNetConfig(pipeckpts=str(folder)),
            task=MVUNetTaskConfig(num_views=2, validation_steps=1, features=str(tmp_path / "features")),
            run=run,
        ),
    )
    first = replace(config, mvunet=replace(config.mvunet, run=replace(run, steps=1)))
    assert run_training("mvunet", config, tmp_path / "undisturbed").skipped == 0
    run_training("mvunet", first, tmp_path / "halves")
    run_training("mvunet", config, tmp_path / "halves")
    undisturbed, halves = (load_file(tmp_path / n / "final.safetensors") for n in ("undisturbed", "halves"))
    assert all(torch.equal(halves[key], value) for key, value in undisturbed.items())
    trained = load_pipeckpts(tmp_path / "halves" / "pipeckpts")
    assert torch.equal(trained.unet.state_dict()[RAY_KEY], undisturbed[RAY_KEY])
    assert not torch.equal(
        trained.unet.state_dict()["conv_out.weight"], load_pipeckpts(folder).unet.state_dict()["conv_out.weight"]
    )


def test_the_shipped_configuration_is_read() -> None:
    config = load_config(TrainConfig, REPOSITORY / "configs" / "mvunet.yaml").mvunet
    assert config.model.rig == RigConfig(elevation_deg=20.0, fov_deg=30.0)
    assert config.run.accumulation * config.run.batch_size == 128  # upstream's objects in a step
