"""The perceptual loss that GS-LRM and FaceLift are trained with: L1 of VGG19's features (Chen & Koltun, ICCV 2017)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mouselift.perceptual.distance import Perceptual

STAGES = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
TAPS = {2: 1 / 2.6, 4: 1 / 4.8, 6: 1 / 3.7, 10: 1 / 5.6, 14: 10 / 1.5}  # convolution, counted from 1 -> weight
MEAN_RGB = (123.68, 116.779, 103.939)  # of pixels in [0, 255]


class VGG19Distance(Perceptual):
    """Mean absolute differences of the pixels and of five levels of features, average pooling between the stages.

    Its convolutions are named `conv1` to `conv16` as in FaceLift's checkpoints, which carry them; other VGG19 weights
    (torchvision's) were trained for other inputs and do not fit.
    """

    name = "vgg19"
    title = "VGG19 features (FaceLift's training loss)"
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        width, number = 3, 1
        for stage in STAGES:
            for channels in stage:
                self.add_module(f"conv{number}", nn.Conv2d(width, channels, 3, padding=1))
                width, number = channels, number + 1
        self.register_buffer("mean", torch.tensor(MEAN_RGB)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    def levels(
        self, predicted: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"]
    ) -> list[Float[Tensor, "n 1 h2 w2"]]:
        """See `Perceptual.levels`."""
        features = 255 * torch.cat([predicted, target]) - self.mean
        levels, number = [_difference(features, 1.0)], 1
        for stage_number, stage in enumerate(STAGES):
            if stage_number:
                features = F.avg_pool2d(features, 2)
            for _ in stage:
                features = getattr(self, f"conv{number}")(features).relu()
                if number in TAPS:
                    levels.append(_difference(features, TAPS[number]))
                if number == max(TAPS):
                    return levels
                number += 1
        return levels


def _difference(features: Float[Tensor, "n2 c h w"], weight: float) -> Float[Tensor, "n 1 h w"]:
    a, b = features.chunk(2)
    return (a - b).abs().mean(1, keepdim=True) * (weight / 255)
