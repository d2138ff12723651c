"""What every perceptual distance offers, and LPIPS (Zhang et al., CVPR 2018) over a backbone."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mouselift.perceptual.backbones import Backbone

# ImageNet's mean and deviation for values in [-1, 1], as LPIPS has them.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10  # inside the root: its gradient is finite where all features are 0, as in black corners


class Perceptual(nn.Module, ABC):
    """A frozen distance between pictures; 0 for equal ones.

    Attributes:
        name: For keys: "lpips", "st_lpips" or "vgg19".
        title: For text; it also names the backbone.
    """

    name: str
    title: str

    @abstractmethod
    def levels(
        self, predicted: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"]
    ) -> list[Float[Tensor, "n 1 h2 w2"]]:
        """Weighted differences at every level, each at its own resolution."""

    def forward(
        self, predicted: Float[Tensor, "*batch 3 h w"], target: Float[Tensor, "*batch 3 h w"]
    ) -> Float[Tensor, "*batch"]:
        """Distance of each pair of pictures.

        Args:
            predicted: sRGB, about [0, 1].
            target: The same.
        """
        levels = self.levels(predicted.flatten(0, -4), target.flatten(0, -4))
        return torch.stack([level.mean((1, 2, 3)) for level in levels]).sum(0).reshape(predicted.shape[:-3])

    def map(
        self, predicted: Float[Tensor, "*batch 3 h w"], target: Float[Tensor, "*batch 3 h w"]
    ) -> Float[Tensor, "*batch 1 h w"]:
        """The distance at every pixel: the levels, each made as large as the pictures, added."""
        levels = self.levels(predicted.flatten(0, -4), target.flatten(0, -4))
        size = predicted.shape[-2:]
        total = sum(F.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in levels)
        assert isinstance(total, Tensor)
        return total.reshape(*predicted.shape[:-3], 1, *size)


class LPIPS(Perceptual):
    """Squared differences of unit feature vectors at five levels, weighted by one learnt number for each channel."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.name = "st_lpips" if backbone.shift_tolerant else "lpips"
        self.title = f"{'ST-LPIPS' if backbone.shift_tolerant else 'LPIPS'} ({backbone.title})"
        self.backbone = backbone
        self.heads = nn.ParameterList([torch.zeros(1, channels, 1, 1) for channels in backbone.channels])
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    def levels(
        self, predicted: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"]
    ) -> list[Float[Tensor, "n 1 h2 w2"]]:
        """See `Perceptual.levels`."""
        both = (2 * torch.cat([predicted, target]) - 1 - self.shift) / self.scale
        differences = []
        for features, head in zip(self.backbone(both), self.heads, strict=True):
            a, b = (features / (features.square().sum(1, keepdim=True) + EPSILON).sqrt()).chunk(2)
            differences.append(F.conv2d((a - b).square(), head))
        return differences
