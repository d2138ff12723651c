"""Transformer blocks shared by the models; parameter names follow FaceLift's published GS-LRM weights."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

INIT_STD = 0.02


class Attention(nn.Module):
    """Full softmax attention over all tokens, no bias, one fused projection split q | k | v, head-major.

    With `qk_norm` queries and keys are normalised in every head (Henry et al. 2020), which keeps long or high-rate
    trainings from diverging; published weights are without.
    """

    def __init__(self, width: int, head_dim: int, *, qk_norm: bool = False) -> None:
        super().__init__()
        if width % head_dim:
            raise ValueError(f"{width=} is not a multiple of {head_dim=}")
        self.num_heads = width // head_dim
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.fc = nn.Linear(width, width, bias=False)
        self.q_norm = nn.LayerNorm(head_dim, bias=False) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_dim, bias=False) if qk_norm else nn.Identity()

    def forward(
        self, tokens: Float[Tensor, "b l d"], visible: Bool[Tensor, "l l"] | None = None
    ) -> Float[Tensor, "b l d"]:
        """Attend, where `visible` (query, key) says to; None stands for everywhere."""
        q, k, v = rearrange(self.to_qkv(tokens), "b l (three h d) -> three b h l d", three=3, h=self.num_heads)
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)  # autocast norms in float32
        return self.fc(rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=visible), "b h l d -> b l (h d)"))


class MLP(nn.Module):
    """Linear, exact GELU, linear; four times wider inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )

    def forward(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """Apply to every token."""
        return self.mlp(tokens)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, head_dim: int, *, qk_norm: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, bias=False)
        self.attn = Attention(width, head_dim, qk_norm=qk_norm)
        self.norm2 = nn.LayerNorm(width, bias=False)
        self.mlp = MLP(width)

    def forward(
        self, tokens: Float[Tensor, "b l d"], visible: Bool[Tensor, "l l"] | None = None
    ) -> Float[Tensor, "b l d"]:
        """Attention (where `visible` says to) and MLP, each added to its input."""
        tokens = tokens + self.attn(self.norm1(tokens), visible)
        return tokens + self.mlp(self.norm2(tokens))


class Patchify(nn.Module):
    """Cuts pixels into non-overlapping patches; inside a patch the order is (row, column, channel), channel fastest."""

    def __init__(self, patch_size_px: int) -> None:
        super().__init__()
        self.patch_size_px = patch_size_px

    def forward(self, pixels: Float[Tensor, "b v c h w"]) -> Float[Tensor, "b v l k"]:
        """Every view's patches, row by row."""
        p = self.patch_size_px
        return rearrange(pixels, "b v c (y i) (x j) -> b v (y x) (i j c)", i=p, j=p)


def patch_embedder(channels: int, patch_size_px: int, width: int) -> nn.Sequential:
    """(B, V, C, H, W) to (B, V, L, D): patches, then one linear layer."""
    return nn.Sequential(Patchify(patch_size_px), nn.Linear(channels * patch_size_px**2, width, bias=False))


def init_weights(module: nn.Module) -> None:
    """GS-LRM's initialisation: every linear weight from N(0, 0.02^2); norms stay at 1."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INIT_STD)


def low_precision(tokens: Tensor, enabled: bool) -> torch.autocast:
    """Autocast to bf16 on the device of `tokens`, or not at all."""
    return torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=enabled)
