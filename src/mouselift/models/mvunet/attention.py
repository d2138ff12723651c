"""Attention across the views of an object, for the stock UNet of diffusers: its only change."""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class MultiViewAttention:
    """An attention processor whose self-attentions look across views; no parameters of its own.

    Sparse: every view sees the tokens of view 0 and its own. Dense: every view sees all views.
    """

    def __init__(self, *, sparse: bool) -> None:
        self.sparse = sparse

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "n l c"],
        encoder_hidden_states: Float[Tensor, "n k e"] | None = None,
        attention_mask: None = None,
        temb: Tensor | None = None,
        num_views: int = 1,
    ) -> Float[Tensor, "n l c"]:
        """Attend; the names of the arguments are those that diffusers passes.

        Args:
            attn: The `Attention` module whose projections are used.
            hidden_states: Tokens of all views, objects slow and views fast: N = B * V.
            encoder_hidden_states: Text tokens, in cross-attention; None in self-attention.
            attention_mask: The UNet here is never given one.
            temb: Not used by the stock transformer block.
            num_views: V; comes in `cross_attention_kwargs`.
        """
        own = encoder_hidden_states is None
        context = hidden_states if own else encoder_hidden_states
        assert attn.norm_q is None, "the stock block of Stable Diffusion 2 has no norm of queries"
        q, k, v = (
            rearrange(project(tokens), "(b v) l (h d) -> b v h l d", v=num_views, h=attn.heads)
            for project, tokens in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        across = _sparse if self.sparse else _dense
        seen = across(q, k, v) if own else _attend(q, k, v)
        return attn.to_out[1](attn.to_out[0](rearrange(seen, "b v h l d -> (b v) l (h d)")))


def attend_across_views(unet: nn.Module, *, sparse: bool) -> None:
    """Make the self-attentions of a stock UNet look across views; calls then need `num_views`."""
    unet.set_attn_processor(MultiViewAttention(sparse=sparse))  # pyright: ignore[reportCallIssue]


def _sparse(
    q: Float[Tensor, "b v h l d"], k: Float[Tensor, "b v h l d"], v: Float[Tensor, "b v h l d"]
) -> Float[Tensor, "b v h l d"]:
    """View 0 sees itself (to see itself twice is the same); every other view sees view 0 and itself."""
    first = _attend(q[:, :1], k[:, :1], v[:, :1])
    if q.shape[1] == 1:
        return first
    keys, values = (torch.cat([t[:, :1].expand_as(t[:, 1:]), t[:, 1:]], dim=-2) for t in (k, v))
    return torch.cat([first, _attend(q[:, 1:], keys, values)], dim=1)


def _dense(
    q: Float[Tensor, "b v h l d"], k: Float[Tensor, "b v h l d"], v: Float[Tensor, "b v h l d"]
) -> Float[Tensor, "b v h l d"]:
    queries, keys, values = (rearrange(t, "b v h l d -> b 1 h (v l) d") for t in (q, k, v))
    return rearrange(_attend(queries, keys, values), "b 1 h (v l) d -> b v h l d", v=q.shape[1])


def _attend(
    q: Float[Tensor, "b v h l d"], k: Float[Tensor, "b v h m d"], v: Float[Tensor, "b v h m d"]
) -> Float[Tensor, "b v h l d"]:
    """Attention of every view apart. With five dimensions torch would not take its fused kernels on a GPU."""
    queries, keys, values = (t.flatten(0, 1) for t in (q, k, v))
    return F.scaled_dot_product_attention(queries, keys, values).unflatten(0, tuple(q.shape[:2]))
