"""Low-rank training (Hu et al. 2022) of the UNet's attention, for cards that cannot hold moments of 870 M weights."""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mouselift.models.mvunet.unet import RAY_KEY

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # of attn1 and attn2
BASE, DOWN, UP = ".base.", ".down.weight", ".up.weight"


class LowRankLinear(nn.Module):
    """A frozen linear layer plus a product of two thin ones that starts at zero: base(x) + up(down(x))."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        like = {"device": base.weight.device, "dtype": torch.float32}
        self.down = nn.Linear(base.in_features, rank, bias=False, **like)
        self.up = nn.Linear(rank, base.out_features, bias=False, **like)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)

    def forward(self, tokens: Float[Tensor, "*n c"]) -> Float[Tensor, "*n d"]:
        """Apply."""
        return self.base(tokens) + self.up(self.down(tokens.to(self.down.weight.dtype))).to(tokens.dtype)


def add_low_rank(unet: nn.Module, rank: int) -> None:
    """Freeze a UNet and give its attentions low-rank parts; these, and the kernel of the rays, are what trains.

    Args:
        unet: From `mouselift.models.mvunet.unet.build_unet`, in place.
        rank: 4 to 64, as a rule.
    """
    unet.requires_grad_(False)
    for name, module in list(unet.named_modules()):
        if isinstance(module, nn.Linear) and name.endswith(TARGETS) and (".attn1." in name or ".attn2." in name):
            parent, _, last = name.rpartition(".")
            setattr(unet.get_submodule(parent), last, LowRankLinear(module, rank))
    for name, parameter in unet.named_parameters():
        if name == RAY_KEY or name.endswith((DOWN, UP)):
            parameter.requires_grad_(True)


def merged_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with low-rank parts added into the matrices that they belong to: published names again."""
    merged = {}
    for key, value in state.items():
        if key.endswith((DOWN, UP)):
            continue
        name = key.replace(BASE, ".")
        stem = name.removesuffix(".weight")
        if BASE in key and name.endswith(".weight"):
            value = value + (state[stem + UP].float() @ state[stem + DOWN].float()).to(value)
        merged[name] = value
    return merged


def merged(unet: nn.Module) -> nn.Module:
    """A copy of a UNet without low-rank parts that computes the same."""
    plain = copy.deepcopy(unet)
    for name, module in list(plain.named_modules()):
        if isinstance(module, LowRankLinear):
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, module.base)
    plain.load_state_dict(merged_state(unet.state_dict()), strict=True)
    return plain
