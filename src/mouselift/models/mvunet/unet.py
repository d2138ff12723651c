"""The multi-view UNet: a stock one, read from FaceLift's configuration, with room for the rays of the views."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mouselift.errors import InputError
from mouselift.models.mvunet import stock
from mouselift.models.mvunet.attention import attend_across_views

logger = logging.getLogger(__name__)

RAY_CHANNELS = 6
KERNEL = 3  # of the first convolution
RAY_KEY = "conv_in.rays.weight"  # the one tensor that published weights do not have
UPSTREAM_BLOCKS = {  # names of upstream's classes, which add no tensors to the stock ones
    "CrossAttnDownBlockMV2D": "CrossAttnDownBlock2D",
    "CrossAttnUpBlockMV2D": "CrossAttnUpBlock2D",
    "UNetMidBlockMV2DCrossAttn": "UNetMidBlock2DCrossAttn",
}
OUR_KEYS = ("num_views", "multiview_attention", "sparse_mv_attention", "ray_channels")
# Variants of the code that FaceLift's grew out of. They compute another function, so they are refused when switched on.
OTHER_MODELS = (
    "cd_attention_last",
    "cd_attention_mid",
    "mvcd_attention",
    "joint_attention",
    "joint_attention_twice",
    "cross_domain_attention",
    "addition_downsample",
)
HARMLESS = ("decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup")

# The published network: Stable Diffusion 2.1 unCLIP (ViT-H) with 8 input channels, 690 tensors, 870,184,644 parameters.
FACELIFT_UNET: Mapping[str, Any] = {
    "_class_name": "UNetMV2DConditionModel",
    "sample_size": 64,
    "in_channels": 8,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlockMV2D"] * 3 + ["DownBlock2D"],
    "mid_block_type": "UNetMidBlockMV2DCrossAttn",
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlockMV2D"] * 3,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 2048,
    "num_views": 6,
    "multiview_attention": True,
    "sparse_mv_attention": True,
}


class PosedConvIn(nn.Module):
    """The UNet's first convolution with extra input channels for rays, which start at zero.

    The published kernel keeps its key and its shape; the extra channels have a kernel of their own, so that at zero
    they change no bit of what comes out.
    """

    def __init__(self, published: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = published.weight, published.bias
        self.rays = nn.Conv2d(RAY_CHANNELS, published.out_channels, KERNEL, padding=KERNEL // 2, bias=False)
        nn.init.zeros_(self.rays.weight)
        self.rays.to(published.weight)

    def forward(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        """Convolve latents and rays, in this order of channels."""
        latents, rays = pixels.split([self.weight.shape[1], RAY_CHANNELS], dim=1)
        seen = nn.functional.conv2d(latents, self.weight, self.bias, padding=KERNEL // 2)
        return seen + self.rays(rays)


def build_unet(config: Mapping[str, Any], where: str = "the UNet's configuration") -> nn.Module:
    """The UNet of a `unet/config.json` with random weights; its attentions look across views.

    Args:
        config: Upstream's or ours. `sparse_mv_attention` chooses the attention (dense where the key is missing, as
            upstream's default is); `ray_channels`: 6 makes room for rays.
        where: For messages.

    Raises:
        InputError: The configuration asks for something else than FaceLift's network.
    """
    _check(config, where)
    stock_config = {key: _stock_name(value) for key, value in config.items() if key in stock.unet_keys()}
    unet = stock.build_unet(stock_config)
    if config.get("ray_channels", 0):
        unet.conv_in = PosedConvIn(unet.conv_in)  # pyright: ignore[reportArgumentType]
    attend_across_views(unet, sparse=bool(config.get("sparse_mv_attention", False)))
    return unet


def is_posed(unet: nn.Module) -> bool:
    """Whether the UNet reads the rays of its views."""
    return isinstance(unet.conv_in, PosedConvIn)


def make_posed(unet: nn.Module) -> None:
    """Add the extra input channels for rays, at zero: the function stays the same until they are trained."""
    if not is_posed(unet):
        unet.conv_in = PosedConvIn(unet.conv_in)  # pyright: ignore[reportArgumentType]


def predict(
    unet: nn.Module,
    latents: Float[Tensor, "b v c h w"],
    time: Float[Tensor, "b"],
    text: Float[Tensor, "b v k e"],
    image: Float[Tensor, "b v i"],
) -> Float[Tensor, "b v c2 h w"]:
    """Run the UNet on all views of a batch of objects.

    Args:
        unet: From `build_unet`.
        latents: Noisy latent, condition latent and, when the UNet is posed, rays.
        time: The diffusion step, one for all views of an object.
        text: The fixed embedding of each view.
        image: The picture's embedding with its noise level, for each view.

    Returns:
        The predicted velocity (or noise, as the schedule says).
    """
    num_views = latents.shape[1]
    out = unet(
        latents.flatten(0, 1),
        time.repeat_interleave(num_views),
        encoder_hidden_states=text.flatten(0, 1),
        class_labels=image.flatten(0, 1),
        cross_attention_kwargs={"num_views": num_views},
        return_dict=False,
    )[0]
    return out.unflatten(0, tuple(latents.shape[:2]))


def _stock_name(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_stock_name(item) for item in value)
    return UPSTREAM_BLOCKS.get(value, value) if isinstance(value, str) else value


def _check(config: Mapping[str, Any], where: str) -> None:
    other = [key for key in OTHER_MODELS if config.get(key)]
    if config.get("selfattn_block") == "self_rowwise":
        other.append("selfattn_block")
    if not config.get("multiview_attention", True):
        other.append("multiview_attention")
    if other:
        raise InputError(f"{where}: expected FaceLift's network, found the variant {', '.join(other)}")
    if config.get("in_channels") != 8 or config.get("out_channels") != 4:
        found = f"{config.get('in_channels')} and {config.get('out_channels')}"
        raise InputError(f"{where}: expected 8 channels in and 4 out, found {found}")
    if config.get("conv_in_kernel", KERNEL) != KERNEL:
        raise InputError(f"{where}: expected conv_in_kernel {KERNEL}, found {config['conv_in_kernel']!r}")
    if config.get("ray_channels", 0) not in (0, RAY_CHANNELS):
        raise InputError(f"{where}: expected ray_channels 0 or {RAY_CHANNELS}, found {config['ray_channels']!r}")
    known = {*stock.unet_keys(), *OUR_KEYS, *OTHER_MODELS, *HARMLESS, "selfattn_block"}
    unknown = sorted(key for key in config if key not in known and not key.startswith("_"))
    if unknown:
        logger.warning("%s: not known here and left out: %s", where, ", ".join(unknown))


def fit_state(state: Mapping[str, Tensor], unet: nn.Module) -> dict[str, Tensor]:
    """Published tensors for a UNet that may be posed: rays that they do not know stay at zero."""
    if is_posed(unet) and RAY_KEY not in state:
        return {**state, RAY_KEY: torch.zeros_like(unet.state_dict()[RAY_KEY])}
    return dict(state)
