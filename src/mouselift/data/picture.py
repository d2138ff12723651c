"""`Picture`: one still picture of a mouse, read from any common file or refused with one line."""

import io
import logging
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from mouselift.errors import InputError

MIN_SIDE_PX = 32
MAX_SIDE_PX = 16384
MAX_PIXELS = 100_000_000

# Only formats that Pillow decodes itself: for EPS, say, it would start another program.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow converts these to RGB
DEEP_GREY_MODES = ("I", "I;16", "I;16B", "I;16L")
# What Pillow's decoders raise on damaged files.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, TypeError, struct.error)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        image: sRGB in [0, 1], straight colour.
        mask: Foreground in [0, 1] where the user gave one (alpha channel or mask file), else None.
        source: Where it was read from.
    """

    image: Float[Tensor, "3 h w"]
    mask: Float[Tensor, "1 h w"] | None
    source: Path


def read_picture(path: Path | str, mask_path: Path | str | None = None) -> Picture:
    """Read one still picture, upright, as sRGB.

    Alpha, grey, 16-bit grey, palette and CMYK files are converted; an embedded colour profile is applied. An
    alpha channel that is opaque everywhere says nothing, so it is no mask.

    Args:
        path: PNG, JPEG, TIFF, WebP, BMP, GIF, PPM or JPEG 2000; 32 to 16384 px a side, at most 100 megapixels.
        mask_path: A grey picture of the same size, bright where the mouse is; takes precedence over alpha. A
            file with only two values, one of them 0, is read as labels, whatever the other value.

    Raises:
        InputError: If a file is missing, damaged, or not one still picture within the limits; if the mask has
            another size, is empty or covers everything.
    """
    path = Path(path)
    decoded = _decode(path, "a picture")
    image = _colour(decoded, path)
    if mask_path is None:
        mask, where = _alpha(decoded), f"{path} (alpha channel)"
    else:
        mask, where = _read_mask(Path(mask_path)), str(mask_path)
    if mask is not None:
        _check_mask(mask, image, where)
    return Picture(
        image=torch.from_numpy(image).permute(2, 0, 1).contiguous(),
        mask=None if mask is None else torch.from_numpy(mask)[None],
        source=path,
    )


def _decode(path: Path, what: str) -> Image.Image:
    """Open a picture file, check what its header says, then decode it and turn it upright."""
    if not path.exists():
        raise InputError(f"{path}: expected {what}, found no such file")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "something that is no regular file"
        raise InputError(f"{path}: expected {what}, found {kind}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected {what}, found an empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures (our limit follows) and of odd but harmless tags
            with Image.open(path, formats=FORMATS) as file:
                _check_header(file, path)
                file.load()
                return ImageOps.exif_transpose(file)
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path}: expected {what} (PNG, JPEG, TIFF, ...), found another kind of file") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: expected at most {MAX_PIXELS / 1e6:.0f} megapixels, found: {error}") from error
    except PermissionError as error:
        raise InputError(f"{path}: expected {what} that may be read, found permission denied") from error
    except DECODE_ERRORS as error:
        raise InputError(f"{path}: expected {what}, found a damaged or truncated file ({error})") from error


def _check_header(file: Image.Image, path: Path) -> None:
    """Refuse sizes and kinds by the header alone, before any pixel is decoded."""
    width, height = file.size
    found = f"found {width}x{height}"
    if min(width, height) < MIN_SIDE_PX:
        raise InputError(f"{path}: expected at least {MIN_SIDE_PX} px on the shorter side, {found}")
    if max(width, height) > MAX_SIDE_PX:
        raise InputError(f"{path}: expected at most {MAX_SIDE_PX} px a side, {found}")
    if width * height > MAX_PIXELS:
        raise InputError(f"{path}: expected at most {MAX_PIXELS / 1e6:.0f} megapixels, {found}")
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and file.format != "MPO":  # a phone's JPEG: its second picture is a preview or a depth map
        raise InputError(f"{path}: expected one still picture, found {frames} frames or pages")
    if file.mode not in (*MODES, *DEEP_GREY_MODES):
        raise InputError(f"{path}: expected a picture of 8 or 16 bits a channel, found the mode {file.mode}")


def _colour(decoded: Image.Image, path: Path) -> np.ndarray:
    """sRGB, (H, W, 3) float32 in [0, 1]."""
    if decoded.mode in DEEP_GREY_MODES:
        values = np.asarray(decoded).astype(np.float32)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{path}: expected grey of at most 16 bits, found values up to {values.max():.0f}")
        return np.repeat(values[..., None] / 65535, 3, axis=-1)
    if decoded.mode in ("RGB", "CMYK") and "icc_profile" in decoded.info:
        decoded = _in_srgb(decoded, path)
    if decoded.has_transparency_data:
        decoded = decoded.convert("RGBA")  # for a palette with transparency; then drop alpha
    return np.asarray(decoded.convert("RGB"), dtype=np.float32) / 255


def _in_srgb(decoded: Image.Image, path: Path) -> Image.Image:
    """Convert from the embedded colour profile."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(decoded.info["icc_profile"]))
        if ImageCms.getProfileDescription(profile).startswith("sRGB"):
            return decoded
        converted = ImageCms.profileToProfile(decoded, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        logger.warning("%s: its colour profile cannot be applied (%s); colours may be off", path, error)
        return decoded
    assert converted is not None, "profileToProfile returns a picture unless inPlace is set"
    return converted


def _alpha(decoded: Image.Image) -> np.ndarray | None:
    """Alpha, (H, W) float32 in [0, 1]; None where there is none, or it is opaque everywhere."""
    if decoded.mode in DEEP_GREY_MODES or not decoded.has_transparency_data:
        return None
    alpha = np.asarray(decoded.convert("RGBA").getchannel("A"), dtype=np.float32) / 255
    return None if (alpha == 1).all() else alpha


def _read_mask(path: Path) -> np.ndarray:
    """A mask file, (H, W) float32 in [0, 1]; its alpha channel where that says something."""
    decoded = _decode(path, "a mask picture")
    alpha = _alpha(decoded)
    values = _colour(decoded, path).mean(-1) if alpha is None else alpha
    low, high = values.min(), values.max()
    if low == 0 and bool(((values == low) | (values == high)).all()):
        return (values > 0).astype(np.float32)
    return values


def _check_mask(mask: np.ndarray, image: np.ndarray, where: str) -> None:
    if mask.shape != image.shape[:2]:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        raise InputError(
            f"{where}: expected a mask of the picture's size {width}x{height}, found {mask_width}x{mask_height}"
        )
    inside = mask > 0.5
    if not inside.any():
        raise InputError(f"{where}: expected a mask that is bright where the mouse is, found an empty one")
    if inside.all():
        raise InputError(f"{where}: expected a mask that is dark around the mouse, found one that covers all")
