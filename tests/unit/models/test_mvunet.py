"""The multi-view UNet: published numbers, inventory, attention, rays, low rank."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeckpts import EMBEDDING, TOKENS, UNET, WIDTH

from mouselift.errors import InputError
from mouselift.models.mvunet import attention, stock
from mouselift.models.mvunet.lora import add_low_rank, merged
from mouselift.models.mvunet.unet import (
    FACELIFT_UNET,
    RAY_CHANNELS,
    RAY_KEY,
    build_unet,
    fit_state,
    is_posed,
    make_posed,
    predict,
)

pytestmark = pytest.mark.skipif(
    not stock.is_available(), reason="the extra `diffusion` is not installed: pip install 'mouselift[diffusion]'"
)
GOLDEN = Path(os.environ.get("MOUSELIFT_GOLDEN", Path(__file__).parents[4] / "shared" / "golden")) / "mvdiff_tiny.pt"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    if not GOLDEN.is_file():
        pytest.skip(f"no golden vectors at {GOLDEN}: set MOUSELIFT_GOLDEN to the folder that holds them")
    return torch.load(GOLDEN, weights_only=True)


@pytest.fixture
def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_unet(UNET).eval()


def inputs(views: int = 6, channels: int = 8, objects: int = 1) -> tuple[torch.Tensor, ...]:
    """Latents, time, text and image of a call, different for every object and view."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((channels, 8, 8), (TOKENS, WIDTH), (2 * EMBEDDING,))
    latents, text, image = (torch.randn(objects, views, *shape, generator=generator) for shape in shapes)
    return latents, torch.full((objects,), 321.0), text, image


@torch.no_grad()
def test_published_numbers_to_1e_5(golden: dict[str, Any]) -> None:
    unet = build_unet({**FACELIFT_UNET, **golden["cfg"]}).eval()
    unet.load_state_dict(golden["state_dict"], strict=True)
    sample, text, image = (golden[name].unflatten(0, (2, 6)) for name in ("sample", "text", "cls"))
    out = predict(unet, sample, golden["t"].float().expand(2), text, image)
    torch.testing.assert_close(out.flatten(0, 1), golden["out"], atol=1e-5, rtol=0)


def test_published_tensors_by_name_number_and_size(golden: dict[str, Any]) -> None:
    with torch.device("meta"):
        state = build_unet(FACELIFT_UNET).state_dict()
    assert set(state) == set(golden["state_dict"])
    assert len(state) == 690
    assert sum(tensor.numel() for tensor in state.values()) == 870_184_644
    assert state["conv_in.weight"].shape == (320, 8, 3, 3)
    assert state["class_embedding.linear_1.weight"].shape == (1280, 2048)


@torch.no_grad()
def test_views_see_view_0_only_or_all(tiny: torch.nn.Module) -> None:
    latents, time, text, image = inputs(views=3)
    dense = build_unet({**UNET, "sparse_mv_attention": False}).eval()
    dense.load_state_dict(tiny.state_dict())
    moved = latents.clone()
    moved[:, 1] += 1
    for unet, others_change in ((tiny, False), (dense, True)):
        change = (predict(unet, moved, time, text, image) - predict(unet, latents, time, text, image)).abs()
        assert float(change[:, 1].max()) > 1e-3
        assert (float(change[:, 2].max()) > 1e-5) == others_change
    moved = latents.clone()
    moved[:, 0] += 1
    change = (predict(tiny, moved, time, text, image) - predict(tiny, latents, time, text, image)).abs()
    assert float(change[:, 1:].amax((0, 2, 3, 4)).min()) > 1e-5


@torch.no_grad()
def test_sparse_attention_is_attention_over_view_0_and_the_own_view(tiny: torch.nn.Module) -> None:
    """View 0 alone, and any other view with view 0 alone, give the same as all views together."""
    latents, time, text, image = inputs(views=4)
    together = predict(tiny, latents, time, text, image)
    for chosen in ([0], [0, 2], [0, 3]):
        apart = predict(tiny, latents[:, chosen], time, text[:, chosen], image[:, chosen])
        torch.testing.assert_close(apart[:, -1], together[:, chosen[-1]], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_objects_of_a_batch_do_not_mix(tiny: torch.nn.Module) -> None:
    latents, time, text, image = inputs(views=3, objects=2)
    together = predict(tiny, latents, time, text, image)
    for i in range(2):
        apart = predict(tiny, latents[i : i + 1], time[i : i + 1], text[i : i + 1], image[i : i + 1])
        torch.testing.assert_close(apart[0], together[i], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_untrained_rays_change_no_bit_and_trained_ones_do(tiny: torch.nn.Module) -> None:
    latents, time, text, image = inputs()
    before = predict(tiny, latents, time, text, image)
    make_posed(tiny)
    rays = torch.randn(1, 6, RAY_CHANNELS, 8, 8)
    assert torch.equal(predict(tiny, torch.cat([latents, rays], dim=2), time, text, image), before)
    tiny.conv_in.rays.weight.normal_(std=0.1)
    assert not torch.allclose(predict(tiny, torch.cat([latents, rays], dim=2), time, text, image), before, atol=1e-3)


def test_published_weights_fit_a_posed_network(tiny: torch.nn.Module) -> None:
    posed = build_unet({**UNET, "ray_channels": RAY_CHANNELS})
    assert is_posed(posed)
    assert set(posed.state_dict()) - set(tiny.state_dict()) == {RAY_KEY}
    posed.load_state_dict(fit_state(tiny.state_dict(), posed), strict=True)
    assert not posed.state_dict()[RAY_KEY].any()


@torch.no_grad()
@pytest.mark.parametrize("sparse", [True, False])
def test_attention_has_the_shape_that_fused_kernels_take(sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four dimensions: with five, torch on a GPU would keep the whole matrix of weights, gigabytes of it."""
    seen, attend = set(), attention.F.scaled_dot_product_attention

    def watch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        seen.update(t.ndim for t in (q, k, v))
        return attend(q, k, v)

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", watch)
    latents, time, text, image = inputs(views=2)
    predict(build_unet({**UNET, "sparse_mv_attention": sparse}).eval(), latents, time, text, image)
    assert seen == {4}


def test_gradient_checkpointing_keeps_the_views_together(tiny: torch.nn.Module) -> None:
    latents, time, text, image = inputs(views=2)
    tiny.train()
    plain = predict(tiny, latents, time, text, image)
    tiny.enable_gradient_checkpointing()
    again = predict(tiny, latents, time, text, image)
    torch.testing.assert_close(again, plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cd_attention_last": True}, "found the variant cd_attention_last"),
        ({"selfattn_block": "self_rowwise"}, "found the variant selfattn_block"),
        ({"multiview_attention": False}, "found the variant multiview_attention"),
        ({"in_channels": 4}, "expected 8 channels in and 4 out, found 4 and 4"),
        ({"ray_channels": 3}, "expected ray_channels 0 or 6, found 3"),
    ],
)
def test_another_network_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_unet({**UNET, **change})


def test_missing_libraries_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"pip install 'mouselift\[diffusion\]'"):
        build_unet(UNET)


@torch.no_grad()
def test_low_rank_starts_as_nothing_and_merges_into_published_names(tiny: torch.nn.Module) -> None:
    latents, time, text, image = inputs()
    tiny.requires_grad_(False)  # torch computes frozen layers in another order
    names, before = set(tiny.state_dict()), predict(tiny, latents, time, text, image)
    make_posed(tiny)
    latents = torch.cat([latents, torch.randn(1, 6, RAY_CHANNELS, 8, 8)], dim=2)
    add_low_rank(tiny, rank=2)
    assert torch.equal(predict(tiny, latents, time, text, image), before)
    trained = [name for name, parameter in tiny.named_parameters() if parameter.requires_grad]
    assert RAY_KEY in trained
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in trained} == {"rays", "down", "up"}
    assert len(trained) == 1 + 2 * 2 * 4 * 4  # of 4 transformer blocks: two attentions, four matrices, two factors
    for name, parameter in tiny.named_parameters():
        if name in trained:
            parameter.normal_(std=0.2)
    after = predict(tiny, latents, time, text, image)
    assert not torch.allclose(after, before, atol=1e-2)
    plain = merged(tiny)
    assert set(plain.state_dict()) == names | {RAY_KEY}
    torch.testing.assert_close(predict(plain, latents, time, text, image), after, atol=1e-4, rtol=1e-4)
