"""The one place that imports diffusers and transformers: their networks and schedules, built from a folder's JSON."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mouselift.errors import InputError

Config = Mapping[str, Any]


def is_available() -> bool:
    """Whether the extra `diffusion` is installed."""
    return find_spec("diffusers") is not None and find_spec("transformers") is not None


def build_unet(config: Config) -> nn.Module:
    """A `UNet2DConditionModel` with random weights; keys that it does not know are left out."""
    kind = _library("diffusers").UNet2DConditionModel
    return kind(**_known(kind, config))


def unet_keys() -> frozenset[str]:
    """The configuration keys that the stock UNet knows."""
    return frozenset(inspect.signature(_library("diffusers").UNet2DConditionModel.__init__).parameters)


def build_vae(config: Config) -> nn.Module:
    """An `AutoencoderKL` with random weights."""
    kind = _library("diffusers").AutoencoderKL
    return kind(**_known(kind, config))


def build_image_encoder(config: Config) -> nn.Module:
    """A `CLIPVisionModelWithProjection` with random weights."""
    transformers = _library("transformers")
    return transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig.from_dict(dict(config)))


def build_ddim(config: Config) -> Any:
    """A DDIM sampler with the schedule of a `scheduler_config.json`."""
    kind = _library("diffusers").DDIMScheduler
    return kind(**_known(kind, config))


def alphas_cumprod(config: Config) -> Float[Tensor, "t"]:
    """The cumulative products of 1 - beta, from the cleanest step on, of a `scheduler_config.json`."""
    kind = _library("diffusers").DDPMScheduler
    return kind(**_known(kind, config)).alphas_cumprod.to(torch.float32)


def _library(name: str) -> Any:
    if not is_available():
        raise InputError("diffusers or transformers is not installed: pip install 'mouselift[diffusion]'")
    return import_module(name)


def _known(kind: type, config: Config) -> dict[str, Any]:
    names = inspect.signature(kind.__init__).parameters
    return {key: value for key, value in config.items() if key in names and key != "self"}
