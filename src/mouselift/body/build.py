"""How one individual differs from the average of its body."""

from dataclasses import astuple, dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.body.skeleton import JOINTS, NUM_TAIL_JOINTS

TAIL = tuple(f"tail_{i}" for i in range(NUM_TAIL_JOINTS))


@dataclass(frozen=True, kw_only=True)
class Build:
    """One individual, as factors on its body.

    Attributes:
        size: Everything.
        girth: Width and height of the trunk.
        ears: Size of the ears.
        tail_length: Length of the tail.
        tail_girth: Its thickness.
        snout: Length of the head.
    """

    size: float = 1.0
    girth: float = 1.0
    ears: float = 1.0
    tail_length: float = 1.0
    tail_girth: float = 1.0
    snout: float = 1.0

    def joint_scales(self) -> Float[np.ndarray, "j 3"]:
        """Growth of what each joint carries, along the rest axes."""
        return joint_scales(torch.tensor(astuple(self), dtype=torch.float64)).numpy().astype(np.float32)


def joint_scales(factors: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch j 3"]:
    """Growth of what each joint carries, along the rest axes; `factors` in the order of `Build`."""
    size, girth, ears, tail_length, tail_girth, snout = factors[..., None].unbind(-2)
    one = torch.ones_like(girth)
    table = {name: (one, girth, girth) for name in ("pelvis", "lumbar", "thorax")}
    table["chest"] = (one, 0.5 + 0.5 * girth, 0.5 + 0.5 * girth)
    table["head"] = (snout, one, one)
    table |= {f"ear_{side}": (ears, ears, ears) for side in "LR"}
    table |= {name: (tail_length, tail_girth, tail_girth) for name in TAIL}
    rows = [torch.cat(table.get(name, (one, one, one)), dim=-1) for name in JOINTS]
    return size[..., None] * torch.stack(rows, dim=-2)
