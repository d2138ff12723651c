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
PAPER, INK = (255, 255, 255), (40, 40, 40)


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
    draw = ImageDraw.Draw(sheet)
    top = GAP_PX
    for row, height in zip(cells, heights, strict=True):
        for column, (title, picture) in enumerate(row):
            left = GAP_PX + column * (width + GAP_PX)
            draw.text((left, top + TITLE_PX // 2), title, fill=INK, font=_fitting_font(title, width), anchor="lm")
            sheet.paste(picture, (left, top + TITLE_PX))
        top += height + TITLE_PX + GAP_PX
    _save(sheet, path)


def _enlarged(image: Float[Tensor, "3 h w"]) -> Image.Image:
    """A picture of at least the cell's size, its pixels shown as squares."""
    factor = max(1, CELL_PX // max(image.shape[-2:]))
    return Image.fromarray(to_uint8(image.repeat_interleave(factor, -1).repeat_interleave(factor, -2)))


def _fitting_font(text: str, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, as large as the title row and the cell's width allow."""
    for size in range(TITLE_PX * 2 // 3, 7, -1):
        font = ImageFont.load_default(size)
        if font.getlength(text) <= width:
            return font
    return ImageFont.load_default(7)


def _save(picture: Image.Image, path: Path | str) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
