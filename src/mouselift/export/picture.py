"""PNG pictures of results: single ones, and sheets of many with their titles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mouselift.atomic import atomic_path

CELL_PX = 256  # smaller pictures of a sheet are enlarged by a whole factor up to it
GAP_PX, TITLE_PX = 8, 24
MIN_FONT_PX, MAX_FONT_PX = 8, 16
PAPER, INK = (236, 236, 238), (40, 40, 40)


def to_uint8(image: Float[Tensor, "c h w"]) -> UInt8[np.ndarray, "h w c"]:
    """Round an image in [0, 1] (clamped) to 8 bits, channels last."""
    return image.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()


def write_png(image: Float[Tensor, "c h w"], path: Path | str) -> None:
    """Write grey (1 channel), sRGB (3) or sRGB with straight alpha (4), values in [0, 1].

    Raises:
        InputError: If the file cannot be written.
    """
    pixels = to_uint8(image)
    _save(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), path)


def contact_sheet(rows: Sequence[Sequence[tuple[str, Float[Tensor, "3 _ _"]]]], path: Path | str) -> None:
    """Write a sheet of titled pictures as PNG.

    Args:
        rows: From top to bottom, each from left to right: title and sRGB image in [0, 1], of any sizes.
        path: The file.

    Raises:
        InputError: If the file cannot be written.
    """
    cells = [[(title, _enlarged(image)) for title, image in row] for row in rows]
    width = max((picture.width for row in cells for _, picture in row), default=CELL_PX)
    heights = [max((picture.height for _, picture in row), default=0) for row in cells]
    columns = max((len(row) for row in cells), default=0)
    size = (
        GAP_PX + columns * (width + GAP_PX),
        GAP_PX + sum(height + TITLE_PX + GAP_PX for height in heights),
    )
    sheet = Image.new("RGB", size, PAPER)
    top = GAP_PX
    for row, height in zip(cells, heights, strict=True):
        for column, (title, picture) in enumerate(row):
            left = GAP_PX + column * (width + GAP_PX)
            sheet.paste(_title_strip(title, width), (left, top))
            sheet.paste(picture, (left, top + TITLE_PX))
        top += height + TITLE_PX + GAP_PX
    _save(sheet, path)


def _enlarged(image: Float[Tensor, "3 h w"]) -> Image.Image:
    """A picture of at least the cell's size, its pixels shown as squares."""
    factor = max(1, CELL_PX // max(image.shape[-2:]))
    return Image.fromarray(to_uint8(image.repeat_interleave(factor, -1).repeat_interleave(factor, -2)))


def _title_strip(title: str, width: int) -> Image.Image:
    """A title in Pillow's own font, as large as fits; what still does not fit is cut off."""
    strip = Image.new("RGB", (width, TITLE_PX), PAPER)
    sizes = range(MAX_FONT_PX, MIN_FONT_PX, -1)
    fonts = (ImageFont.load_default(size) for size in sizes)
    font = next((font for font in fonts if font.getlength(title) <= width), ImageFont.load_default(MIN_FONT_PX))
    ImageDraw.Draw(strip).text((0, TITLE_PX // 2), title, fill=INK, font=font, anchor="lm")
    return strip


def _save(picture: Image.Image, path: Path | str) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
