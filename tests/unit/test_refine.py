"""The fit: it approaches the views, prunes only what no view needs, and the cut around the subject moves no pixel."""

import torch
from torch.nn import functional as F

from mouselift.geometry import Gaussians, Views
from mouselift.geometry.rigs import orbit
from mouselift.metrics import psnr_fg
from mouselift.refine import Objective, around_subject, refine, shares_px
from mouselift.render import render

GREY = (0.5, 0.5, 0.5)
CAMERAS = orbit([0.0, 70.0, 140.0, 210.0, 290.0], 25.0, fov_deg=40, size_px=48)


def ball(count: int = 150, seed: int = 0, radius: float = 0.35) -> Gaussians:
    """Coloured Gaussians on a sphere."""
    dice = torch.Generator().manual_seed(seed)
    means = radius * F.normalize(torch.randn(count, 3, generator=dice), dim=-1)
    return Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        scales=torch.full((count, 3), 0.06),
        opacities=torch.full((count,), 0.8),
        sh=(means / radius)[:, None],
    )


def photographed(scene: Gaussians) -> Views:
    shot = render(scene, CAMERAS, (0.0, 0.0, 0.0))
    return Views(images=(shot.image / shot.alpha.clamp_min(1e-3)).clamp(0, 1), masks=shot.alpha, cameras=CAMERAS)


def fit_to(scene: Gaussians, objective: Objective | None = None, steps: int = 30) -> Gaussians:
    return refine(scene, photographed(ball()), torch.ones(5), steps, objective=objective)


def decibels(scene: Gaussians) -> float:
    truth = photographed(ball())
    made = render(scene, CAMERAS, GREY).image
    return float(psnr_fg(made, truth.over(torch.tensor(GREY)).images, truth.masks).mean())


def test_both_errors_of_colour_bring_the_scene_to_its_views() -> None:
    start = ball(seed=1)
    for objective in (Objective(), Objective(absolute=True)):
        assert decibels(fit_to(start, objective)) > decibels(start) + 6


def test_same_input_same_bits() -> None:
    objective = Objective(absolute=True, prune_every=10)
    first, second = (fit_to(ball(seed=1), objective) for _ in range(2))
    assert torch.equal(first.means, second.means)
    assert torch.equal(first.sh, second.sh)


def test_a_share_is_the_pixels_that_a_gaussian_makes_up() -> None:
    scene = ball()
    behind = Gaussians(
        means=scene.means + 50, quats=scene.quats, scales=scene.scales, opacities=scene.opacities, sh=scene.sh
    )
    shares = shares_px(Gaussians.cat([scene, behind]), CAMERAS)
    torch.testing.assert_close(shares.sum(), render(scene, CAMERAS).alpha.sum(), rtol=1e-4, atol=0)
    assert bool((shares[len(scene) :] == 0).all())


def test_pruning_drops_what_is_hidden_and_changes_no_picture() -> None:
    core = ball(40, radius=0.02)  # inside a dense shell
    shell = ball(2000)
    kept = fit_to(Gaussians.cat([shell, core]), Objective(prune_every=1, min_share_px=0.01), steps=1)
    unpruned = fit_to(Gaussians.cat([shell, core]), steps=1)
    assert len(kept) < len(unpruned) == len(shell) + len(core)
    before, after = (render(scene, CAMERAS).image for scene in (unpruned, kept))
    assert float((before - after).abs().max()) < 0.03


def test_pruning_keeps_the_memory_of_those_that_stay() -> None:
    far = ball(10)
    unseen = Gaussians(means=far.means + 50, quats=far.quats, scales=far.scales, opacities=far.opacities, sh=far.sh)
    pruned = fit_to(Gaussians.cat([unseen, ball(seed=1)]), Objective(prune_every=5, min_share_px=1e-9), steps=12)
    plain = fit_to(ball(seed=1), steps=12)
    assert len(pruned) == len(plain)
    torch.testing.assert_close(pruned.means, plain.means)


def test_regularisers_make_gaussians_fainter_and_smaller() -> None:
    plain = fit_to(ball(seed=1))
    faint = fit_to(ball(seed=1), Objective(opacity_weight=1.0))
    small = fit_to(ball(seed=1), Objective(scale_weight=10.0))
    assert float(faint.opacities.mean()) < float(plain.opacities.mean()) - 0.02
    assert float(small.scales.mean()) < 0.9 * float(plain.scales.mean())


def test_flat_gaussians_of_a_file_stay_finite() -> None:
    start = ball(seed=1)
    flat = Gaussians(
        means=start.means,
        quats=start.quats,
        scales=start.scales * torch.tensor([1.0, 1, 0]),
        opacities=start.opacities,
        sh=start.sh,
    )
    assert bool(fit_to(flat, steps=3).scales.isfinite().all())


def test_the_cut_around_the_subject_shows_the_same_pixels() -> None:
    moved = ball()
    scene = Gaussians(
        means=0.4 * moved.means + torch.tensor([0.3, 0.1, 0.0]),
        quats=moved.quats,
        scales=0.4 * moved.scales,
        opacities=moved.opacities,
        sh=moved.sh,
    )
    views = photographed(scene)
    cut = around_subject(views, margin_px=2)
    assert cut.cameras.width < 40
    torch.testing.assert_close(cut.masks.sum((1, 2, 3)), views.masks.sum((1, 2, 3)))
    torch.testing.assert_close(render(scene, cut.cameras).alpha, cut.masks, atol=1e-4, rtol=0)


def test_views_without_the_subject_can_be_cut() -> None:
    views = photographed(ball())
    empty = Views(images=views.images, masks=torch.zeros_like(views.masks), cameras=CAMERAS)
    assert (around_subject(empty, margin_px=4).cameras.width, around_subject(empty).cameras.width) == (8, 16)
