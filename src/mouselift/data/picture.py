"""`Picture`: one still picture of a mouse, read from any common file, refused with one line when it is not one."""

import io
import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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

# Only formats that Pillow decodes itself: EPS, for one, would start another program.
FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000")
# What Pillow's decoders raise on damaged files.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
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

    Alpha, grey, 16-bit grey, palette and CMYK files are converted; an embedded colour profile is applied. An alpha
    channel that is opaque everywhere says nothing, so it is no mask.

    Args:
        path: PNG, JPEG, TIFF, WebP, BMP, GIF, PPM or JPEG 2000; 32 px to 16384 px a side, at most 100 megapixels.
        mask_path: A grey picture of the same size, bright where the mouse is; takes precedence over alpha. A file with
            only two values, one of them 0, is read as a label image whatever the other value.

    Raises:
        InputError: If a file is missing, is not one still picture within the limits, or is damaged; if the mask has
            another size, is empty or covers everything.
    """
    path = Path(path)
    with _opened(path, "a picture") as file:
        image = _read_colour(file, path)
        alpha = _read_alpha(file) if file.has_transparency_data else None
    if mask_path is None:
        where = f"{path} (alpha channel)"
    else:
        where = str(mask_path)
        alpha = _read_mask(Path(mask_path))
        if alpha.shape != image.shape[:2]:
            raise InputError(
                f"{where}: expected a mask of the picture's size {_size(image)}, found {_size(alpha)} ({path})"
            )
    if alpha is not None:
        _check_mask(alpha, where)
    return Picture(
        image=torch.from_numpy(image).permute(2, 0, 1).contiguous(),
        mask=None if alpha is None else torch.from_numpy(alpha)[None],
        source=path,
    )


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Image.Image]:
    """Open a picture file, check all that its header says, then decode it and turn it upright."""
    if path.is_dir():
        raise InputError(f"{path}: expected {what}, found a folder")
    if not path.exists():
        raise InputError(f"{path}: expected {what}, found no such file")
    if not path.is_file():
        raise InputError(f"{path}: expected {what}, found something that is not a regular file")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: expected {what}, found an empty file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            file = Image.open(path, formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"{path}: expected {what} (PNG, JPEG, TIFF, WebP, BMP, GIF, PPM or JPEG 2000), found another kind of file"
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: expected at most {MAX_PIXELS / 1e6:.0f} megapixels, found more than "
            f"{2e-6 * (Image.MAX_IMAGE_PIXELS or 0):.0f}"
        ) from error
    except PermissionError as error:
        raise InputError(f"{path}: expected {what} that can be read, found permission denied") from error
    except InputError:
        raise
    except DECODE_ERRORS as error:
        raise InputError(f"{path}: expected {what}, found a damaged file ({error})") from error
    with file:
        try:
            _check_header(file, path)
            file.load()
            yield ImageOps.exif_transpose(file)
        except InputError:
            raise
        except DECODE_ERRORS as error:
            raise InputError(f"{path}: expected {what}, found a damaged or truncated file ({error})") from error


def _check_header(file: Image.Image, path: Path) -> None:
    """Refuse sizes and kinds from the header alone, before any pixel is decoded."""
    width, height = file.size
    if min(width, height) < MIN_SIDE_PX:
        raise InputError(f"{path}: expected at least {MIN_SIDE_PX} px on the shorter side, found {width}x{height}")
    if max(width, height) > MAX_SIDE_PX:
        raise InputError(f"{path}: expected at most {MAX_SIDE_PX} px a side, found {width}x{height}")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path}: expected at most {MAX_PIXELS / 1e6:.0f} megapixels, "
            f"found {width}x{height} = {width * height / 1e6:.0f}"
        )
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and file.format != "MPO":  # the second picture of an MPO, a phone's JPEG, is a preview or a depth map
        raise InputError(f"{path}: expected one still picture, found {frames} frames or pages")


def _read_colour(file: Image.Image, path: Path) -> np.ndarray:
    """Decode to sRGB, (H, W, 3) float32 in [0, 1]."""
    if file.mode == "F" or file.mode.startswith("I"):
        grey = _read_deep_grey(file, path)
        return np.repeat(grey[..., None], 3, axis=-1)
    if file.mode in ("RGB", "CMYK") and "icc_profile" in file.info:
        file = _apply_profile(file, path)
    rgb = file.convert("RGBA").convert("RGB") if file.has_transparency_data else file.convert("RGB")
    return np.asarray(rgb, dtype=np.float32) / 255


def _read_deep_grey(file: Image.Image, path: Path) -> np.ndarray:
    """Decode grey of more than 8 bits, (H, W) float32 in [0, 1]; the full 16-bit range is white."""
    values = np.asarray(file)
    low, high = float(values.min()), float(values.max())
    if file.mode == "F" or low < 0 or high > 65535:
        raise InputError(
            f"{path}: expected 8 or 16 bits a channel, found pixels of mode {file.mode} from {low:g} to {high:g}"
        )
    return values.astype(np.float32) / 65535


def _apply_profile(file: Image.Image, path: Path) -> Image.Image:
    """Convert from the embedded colour profile to sRGB."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(file.info["icc_profile"]))
        if ImageCms.getProfileDescription(profile).startswith("sRGB"):
            return file
        converted = ImageCms.profileToProfile(file, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError as error:
        log.warning("%s: its colour profile cannot be applied (%s); colours may be slightly off", path, error)
        return file
    if converted is None:
        raise AssertionError("profileToProfile returns a picture unless inPlace is set")
    return converted


def _read_alpha(file: Image.Image) -> np.ndarray | None:
    """Decode the alpha channel, (H, W) float32 in [0, 1]; None when it is opaque everywhere."""
    alpha = np.asarray(file.convert("RGBA").getchannel("A"), dtype=np.float32) / 255
    return None if (alpha == 1).all() else alpha


def _read_mask(path: Path) -> np.ndarray:
    """Decode a mask file, (H, W) float32 in [0, 1]."""
    with _opened(path, "a mask picture") as file:
        alpha = _read_alpha(file) if file.has_transparency_data else None
        grey = _read_colour(file, path).mean(-1) if alpha is None else alpha
    low, high = float(grey.min()), float(grey.max())
    if low == 0 and bool(((grey == low) | (grey == high)).all()):
        return (grey > 0).astype(np.float32)
    return grey


def _check_mask(mask: np.ndarray, where: str) -> None:
    inside = float((mask > 0.5).mean())
    if inside == 0:
        raise InputError(f"{where}: expected a mask that is bright where the mouse is, found an empty one")
    if inside == 1:
        raise InputError(f"{where}: expected a mask that is dark around the mouse, found one that covers everything")


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
