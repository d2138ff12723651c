"""Metrics against closed forms and scikit-image; the regions mean what their names say."""

import math

import pytest
import torch
from skimage.metrics import structural_similarity

from mouselift.losses import dssim, l2
from mouselift.metrics import coverage, iou_alpha, psnr_fg, psnr_full, ssim_fg, ssim_full
from mouselift.ssim import SSIM_SIGMA, ssim_map


@pytest.fixture
def pair(generator) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.rand(2, 3, 40, 32, generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(2, 3, 40, 32, generator=generator, dtype=torch.float64)
    return (target + noise).clamp(0, 1), target


def test_psnr_of_a_constant_error() -> None:
    target = torch.full((3, 8, 8), 0.5)
    assert float(psnr_full(target + 0.1, target)) == pytest.approx(20.0, abs=1e-4)


def test_foreground_psnr_sees_the_foreground_only() -> None:
    target = torch.full((3, 8, 8), 0.5)
    masks = torch.zeros(1, 8, 8)
    masks[:, 2:5, 2:5] = 1
    predicted = torch.where(masks > 0, target + 0.1, torch.zeros(()))
    assert float(psnr_fg(predicted, target, masks)) == pytest.approx(20.0, abs=1e-4)
    assert float(psnr_full(predicted, target)) < 10


def test_a_view_without_subject_is_no_number_not_a_good_one() -> None:
    image = torch.rand(3, 8, 8)
    assert math.isnan(float(psnr_fg(image, image, torch.zeros(1, 8, 8))))
    assert math.isnan(float(ssim_fg(image, image, torch.zeros(1, 8, 8))))


def test_pictures_of_little_but_background_flatter_what_is_wrong_about_the_subject() -> None:
    target, masks = torch.ones(3, 64, 64), torch.zeros(1, 64, 64)
    masks[:, :8, :16] = 1
    predicted = torch.where(masks > 0, torch.rand(3, 64, 64), target)
    assert float(coverage(masks)) == pytest.approx(8 * 16 / 64**2)
    assert float(ssim_full(predicted, target)) > 0.9
    assert float(ssim_fg(predicted, target, masks)) < 0.5


def test_ssim_is_scikit_images(pair) -> None:
    predicted, target = pair
    for ours, a, b in zip(ssim_map(predicted, target), predicted, target, strict=True):
        _, theirs = structural_similarity(
            a.permute(1, 2, 0).numpy(),
            b.permute(1, 2, 0).numpy(),
            channel_axis=2,
            data_range=1.0,
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            use_sample_covariance=False,
            full=True,
        )
        inside = (slice(None), slice(5, -5), slice(5, -5))  # the borders are padded in slightly different ways
        expected = torch.from_numpy(theirs).permute(2, 0, 1)
        torch.testing.assert_close(ours[inside], expected[inside], atol=1e-6, rtol=0)


def test_ssim_of_itself_is_one_and_dssim_zero(pair) -> None:
    _, target = pair
    assert float(ssim_map(target, target).min()) == pytest.approx(1.0)
    assert float(dssim(target, target)) == pytest.approx(0.0, abs=1e-9)
    assert float(dssim(1 - target, target)) > 0.5
    assert float(l2(target + 0.5, target)) == pytest.approx(0.25)


def test_iou_of_two_halves() -> None:
    a, b = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    a[:, :, :2] = 1
    b[:, :, 1:3] = 1
    assert float(iou_alpha(a, b)) == pytest.approx(1 / 3)
    assert float(iou_alpha(a, a)) == 1
    assert float(iou_alpha(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))) == 1
    assert float(iou_alpha(a, torch.zeros(1, 4, 4))) == 0


def test_batches_are_scored_one_by_one(pair) -> None:
    predicted, target = pair
    masks = torch.ones(2, 1, 40, 32, dtype=torch.float64)
    for metric in (psnr_fg, ssim_fg):
        together = metric(predicted, target, masks)
        apart = torch.stack([metric(*each) for each in zip(predicted, target, masks, strict=True)])
        torch.testing.assert_close(together, apart)
