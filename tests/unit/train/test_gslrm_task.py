"""GS-LRM's task: losses by name, warm-up, colours matched, batches of unlike samples, validation splits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from blobs import write_blobs
from torch import Tensor

from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import Sample
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Similarity, Views
from mouselift.geometry.rigs import orbit
from mouselift.models.gslrm import GSLRMConfig
from mouselift.perceptual.backbones import Backbone
from mouselift.render import RenderOutput, render
from mouselift.train.gslrm_task import GSLRMTask, GSLRMTaskConfig, validation_split

TINY = GSLRMConfig(width=32, head_dim=16, num_layers=1, skip_empty_patches=True)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Sample]:
    data = MouseDataset(write_blobs(tmp_path_factory.mktemp("blobs")), "train")
    return [data[0], data[1]]


def task(config: GSLRMTaskConfig | None = None) -> GSLRMTask:
    torch.manual_seed(0)
    return GSLRMTask(TINY, config or GSLRMTaskConfig(), bf16=False)


def loss_of(its: GSLRMTask, samples: list[Sample], seed: int = 1) -> tuple[Tensor, dict[str, float]]:
    return its.loss(samples, torch.Generator().manual_seed(seed))


def rig_sample(size_px: int, num_views: int, sample_id: str = "a", width_px: int | None = None) -> Sample:
    """A recording's sample: no free views."""
    cameras = orbit([360 / num_views * i for i in range(num_views)], 20.0, fov_deg=30, size_px=size_px)
    masks = torch.zeros(num_views, 1, size_px, size_px)
    masks[..., size_px // 4 : size_px // 2, size_px // 4 : size_px // 2] = 1
    views = Views(images=torch.full((num_views, 3, size_px, size_px), 0.3), masks=masks, cameras=cameras)
    if width_px is not None:
        views = views.cropped(0, 0, width_px, size_px)
    return Sample(views=views, sample_id=sample_id, frame_index=0, scene_from_world=Similarity.identity())


def test_the_loss_is_the_weighted_sum_of_its_named_terms(samples: list[Sample]) -> None:
    config = GSLRMTaskConfig(alpha_weight=0.7, dssim_weight=0.3, opacity_weight=0.05, scale_weight=0.02)
    loss, figures = loss_of(task(config), samples)
    assert set(figures) == {"l2", "alpha", "dssim", "mean_opacity", "mean_scale"}
    weights = {"l2": 1.0, "alpha": 0.7, "dssim": 0.3, "mean_opacity": 0.05, "mean_scale": 0.02}
    assert float(loss.detach()) == pytest.approx(sum(weights[k] * figures[k] for k in weights), rel=1e-5)


def test_perceptual_loss_warms_up_and_logs_its_own_name(samples: list[Sample], tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(Backbone("alex").state_dict(), tmp_path / "alexnet.pth")
    config = GSLRMTaskConfig(
        perceptual_weight=0.5, perceptual_weights=str(tmp_path / "alexnet.pth"), perceptual_warmup_steps=10
    )
    warm = task(config)
    losses = {}
    for step in (0, 5, 10, 100):
        warm.step = step
        losses[step], figures = loss_of(warm, samples)
    assert "lpips" in figures
    assert figures["lpips"] > 0
    without, _ = loss_of(task(), samples)
    assert float(losses[0].detach()) == pytest.approx(float(without.detach()), rel=1e-5)
    added = {step: float((loss - without).detach()) for step, loss in losses.items()}
    assert added[5] == pytest.approx(0.25 * figures["lpips"], rel=1e-3)
    assert added[100] == pytest.approx(added[10]) == pytest.approx(0.5 * figures["lpips"], rel=1e-3)
    assert not any("perceptual" in key or "backbone" in key for key in warm.model.state_dict())


def test_st_lpips_is_called_so(samples: list[Sample]) -> None:
    its = task(GSLRMTaskConfig(perceptual_weight=0.5, perceptual_warmup_steps=0))
    assert "st_lpips" in loss_of(its, samples[:1])[1]
    assert "st_lpips_fg" in its.validate(its.model, samples[:1])[0]


@pytest.mark.parametrize("match", ["detached", "through"])
def test_matched_colours_forgive_a_camera_its_exposure(samples: list[Sample], match: str) -> None:
    """What is rendered, seen by a camera of another gain, is no error once colours are matched."""
    its = task(GSLRMTaskConfig(match_colours=match))
    cameras = samples[0].views.cameras[:2]
    with torch.no_grad():
        gaussians = its.model(samples[0].views[:4].reshape(1, 4))
        out = render(gaussians, cameras.reshape(1, 2), (0.0, 0.0, 0.0))
    straight = (out.image / out.alpha.clamp_min(1e-3)).clamp(0, 1)
    target = Views(images=(0.6 * straight + 0.1), masks=out.alpha.clamp(0, 1), cameras=cameras.reshape(1, 2))
    background = torch.zeros(3)
    plain = task()._terms(gaussians, out, target, background)["l2"][1]
    matched = its._terms(gaussians, out, target, background)["l2"][1]
    assert float(matched) < 0.05 * float(plain)


def test_matching_leaves_the_background_alone() -> None:
    its = task(GSLRMTaskConfig(match_colours="detached"))
    views = rig_sample(32, 2).views.reshape(1, 2)
    empty = torch.zeros(1, 2, 1, 32, 32)
    background = torch.tensor([0.2, 0.4, 0.6])
    image = background[:, None, None].expand(1, 2, 3, 32, 32)
    matched = its._matched(RenderOutput(image=image, alpha=empty, depth=empty), views, background)
    torch.testing.assert_close(matched, image)


def test_samples_with_unlike_numbers_of_views_share_a_batch() -> None:
    config = GSLRMTaskConfig(min_context=4, max_context=4, num_targets=3, rig_context_share=0.0)
    loss, _ = loss_of(task(config), [rig_sample(32, 6), rig_sample(32, 3, "b"), rig_sample(32, 2, "c")])
    assert bool(loss.isfinite())


def test_samples_of_unlike_sizes_share_a_batch_once_a_size_is_set() -> None:
    unlike = [rig_sample(32, 4), rig_sample(48, 4, "b"), rig_sample(48, 4, "c", width_px=40)]
    with pytest.raises(InputError, match=r"found 32x32, 40x48, 48x48 px; set gslrm\.task\.size_px"):
        loss_of(task(GSLRMTaskConfig(rig_context_share=0.0)), unlike)
    its = task(GSLRMTaskConfig(rig_context_share=0.0, size_px=32))
    assert bool(loss_of(its, unlike)[0].isfinite())
    figures, panels = its.validate(its.model, unlike)
    assert set(panels) == {"", "turntable"}
    assert 0 < figures["mean_mask"] < 1


def test_crops_are_drawn_only_when_asked_for(samples: list[Sample]) -> None:
    plain = loss_of(task(), samples)[0]
    cropped = loss_of(task(GSLRMTaskConfig(crop_share=1.0)), samples)[0]
    assert bool(cropped.isfinite())
    assert float(plain) != float(cropped)


def test_a_rig_without_photographs_keeps_a_view_for_validation() -> None:
    for num_views in (2, 3, 6, 8):
        context, others = validation_split(rig_sample(32, num_views).views, "a")
        assert context
        assert others
        assert sorted(context + others) == list(range(num_views))
    with pytest.raises(InputError, match="at least two views"):
        validation_split(rig_sample(32, 1).views, "a")


def test_validation_says_what_a_blank_picture_gets(samples: list[Sample]) -> None:
    its = task()
    figures, _ = its.validate(its.model, samples)
    white = Views(images=samples[0].views.images, masks=samples[0].views.masks, cameras=samples[0].views.cameras)
    assert figures["mean_mask"] == pytest.approx(float(white.masks.mean()), rel=1e-3)
    assert figures["blank_psnr_fg"] < 20


@pytest.mark.parametrize("wrong", [{"min_context": 5, "max_context": 4}, {"num_targets": 0}, {"smallest_crop": 0.0}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(GSLRMTaskConfig(), **wrong)


def test_any_intrinsics_make_a_sample(samples: list[Sample]) -> None:
    """Off-centre principal points and focal lengths of their own are seen by the rays, and rendered."""
    cameras = samples[0].views.cameras
    K = cameras.K.clone()
    K[:, 0, 0] *= 1.3
    K[:, 0, 2] += 5.0
    other = replace(samples[0], views=replace(samples[0].views, cameras=replace(cameras, K=K)))
    assert isinstance(other.views.cameras, Cameras)
    assert float(loss_of(task(), [other])[0]) != float(loss_of(task(), [samples[0]])[0])
