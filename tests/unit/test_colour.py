"""Affine colour of each view: exact where an affine map made the difference, harmless where nothing is seen."""

import torch
from torch import Tensor

from mouselift.colour import matched_colours
from mouselift.metrics import psnr_fg, psnr_fg_affine


def pictures(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(2, 1, 24, 24)
    masks[..., 4:20, 6:18] = 1
    return 0.2 + 0.5 * torch.rand(2, 3, 24, 24, generator=generator), masks


def other_camera(straight: Tensor) -> Tensor:
    mix = torch.tensor([[[1.1, 0.05, 0.0], [0.0, 0.9, 0.1], [0.02, 0.0, 0.8]], [[0.7, 0, 0], [0, 0.7, 0], [0, 0, 0.7]]])
    offset = torch.tensor([[0.05, -0.02, 0.1], [0.2, 0.2, 0.2]])
    return torch.einsum("vij,vjhw->vihw", mix, straight) + offset[..., None, None]


def test_an_affine_difference_of_each_view_is_undone_also_at_soft_edges() -> None:
    straight, masks = pictures()
    masks[..., 4, :] *= 0.5
    matched = matched_colours(straight * masks, masks, other_camera(straight) * masks, masks)
    before = (straight * masks - other_camera(straight) * masks).abs().max()
    assert float(before) > 0.1
    assert float((matched - other_camera(straight) * masks).abs().max()) < 0.02 * float(before)


def test_nothing_seen_changes_nothing() -> None:
    straight, masks = pictures()
    nothing = torch.zeros_like(masks)
    torch.testing.assert_close(matched_colours(straight, masks, 1 - straight, nothing), straight)


def test_structure_is_not_made_up() -> None:
    """A flat grey stays flat, whatever it is compared with."""
    straight, masks = pictures()
    grey = torch.full_like(straight, 0.5)
    matched = matched_colours(grey * masks, masks, straight * masks, masks)
    inside = masks[0, 0] > 0
    assert float(matched[0, :, inside].std(-1).max()) < 1e-6


def test_gradients_reach_the_colours_and_only_through_the_map_when_asked() -> None:
    straight, masks = pictures()
    truth = other_camera(straight)

    def gradient(through: bool) -> Tensor:
        given = (straight * masks).requires_grad_()
        (matched_colours(given, masks, truth * masks, masks, through=through) - 0.3).square().sum().backward()
        assert given.grad is not None
        return given.grad

    detached, whole = gradient(False), gradient(True)
    assert float(detached.abs().max()) > 0
    assert float((detached - whole).abs().max()) > 1e-3 * float(detached.abs().max())


def test_differentiable_form_passes_gradcheck() -> None:
    generator = torch.Generator().manual_seed(1)
    colours, truth = (torch.rand(1, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    ones = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    colours.requires_grad_()
    assert torch.autograd.gradcheck(lambda c: matched_colours(c, ones, truth, ones, through=True), (colours,))


def test_metric_after_matching_is_named_apart_and_forgives_exposure_only() -> None:
    straight, masks = pictures()
    shifted = (straight * 0.8 + 0.05).clamp(0, 1)
    assert float(psnr_fg(shifted, straight, masks).max()) < 30
    assert float(psnr_fg_affine(shifted, straight, masks).min()) > 45
    noise = torch.rand(straight.shape, generator=torch.Generator().manual_seed(5))
    assert float(psnr_fg_affine(noise, straight, masks).max()) < 20
