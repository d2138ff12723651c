"""AlexNet's and VGG16's convolutions with torchvision's numbering: plain, or shift tolerant (Ghildyal & Liu, 2022)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class BlurPool(nn.Module):
    """Binomial 3x3 filter and every second pixel, over two pixels of reflected border; nothing is learnt."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", (row[:, None] * row)[None, None], persistent=False)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Half the resolution."""
        channels = features.shape[1]
        padded = F.pad(features, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(padded, self.kernel.expand(channels, 1, 3, 3), stride=2, groups=channels)


@dataclass(frozen=True)
class Plan:
    """The layers of a backbone, and after which of them its features are taken."""

    layers: tuple[nn.Module, ...]
    taps: tuple[int, ...]
    channels: tuple[int, ...]


class Backbone(nn.Module):
    """Frozen convolutions whose features are taken at five depths.

    Attributes:
        title: Of the network.
        shift_tolerant: Blurs wherever it drops pixels.
        channels: Of the five features.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.title, self.shift_tolerant, plan = BACKBONES[kind]
        made = plan()
        self.features = nn.Sequential(*made.layers)
        self.taps, self.channels = made.taps, made.channels

    def forward(self, pictures: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h2 w2"]]:
        """Features at the five taps, fine to coarse."""
        taken, features = [], pictures
        for index, layer in enumerate(self.features):
            features = layer(features)
            if index in self.taps:
                taken.append(features)
        return taken


def _alexnet() -> Plan:
    layers = (
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        *_alexnet_end(),
    )
    return Plan(layers, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256))


def _alexnet_shift_tolerant() -> Plan:
    layers = (
        nn.Conv2d(3, 64, 11, padding=2),
        BlurPool(),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=1),
        BlurPool(),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=1),
        BlurPool(),
        *_alexnet_end(),
    )
    return Plan(layers, (2, 6, 10, 12, 14), (64, 192, 384, 256, 256))


def _alexnet_end() -> tuple[nn.Module, ...]:
    widths = ((192, 384), (384, 256), (256, 256))
    return tuple(layer for a, b in widths for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU()))


def _vgg16() -> Plan:
    return _vgg(lambda: [nn.MaxPool2d(2)])


def _vgg16_shift_tolerant() -> Plan:
    return _vgg(lambda: [nn.MaxPool2d(2, stride=1), BlurPool()])


def _vgg(pool: Callable[[], list[nn.Module]]) -> Plan:
    layers: list[nn.Module] = []
    taps, width = [], 3
    for stage in VGG16_STAGES:
        if layers:
            layers += pool()
        for channels in stage:
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
            width = channels
        taps.append(len(layers) - 1)
    return Plan(tuple(layers), tuple(taps), tuple(stage[-1] for stage in VGG16_STAGES))


BACKBONES: dict[str, tuple[str, bool, Callable[[], Plan]]] = {
    "alex": ("AlexNet", False, _alexnet),
    "vgg": ("VGG16", False, _vgg16),
    "st_alex": ("AlexNet", True, _alexnet_shift_tolerant),
    "st_vgg": ("VGG16", True, _vgg16_shift_tolerant),
}
