"""Folders of numbered pictures: frames or masks, one file for each."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mouselift.data.boxed import BoxedMask, boxed
from mouselift.data.picture import DECODE_ERRORS
from mouselift.data.recording.video import Channels
from mouselift.errors import InputError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})  # Pillow's names of what has 8 bits or fewer


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureFolder:
    """Consecutively numbered pictures of one size; the lowest number is frame 0.

    Attributes:
        path: The folder.
        files: Names, in the order of their numbers.
        width: Pixels.
        height: Pixels.
        has_alpha: Whether the first picture carries transparency.
    """

    path: Path
    files: tuple[str, ...]
    width: int
    height: int
    has_alpha: bool

    @property
    def num_frames(self) -> int:
        """Pictures in the folder."""
        return len(self.files)

    def read(
        self, numbers: Iterable[int], channels: Channels, *, threads: int = 0
    ) -> Iterator[UInt8[np.ndarray, "..."]]:
        """Read pictures by frame number.

        Args:
            numbers: Frame numbers.
            channels: "rgb" (H, W, 3), "rgba" (H, W, 4), or "mask" (H, W): alpha where there is any, else the first
                channel as it is; labels (a palette, or values 0 and 1 only) become 0 and 255.
            threads: Not needed for pictures; as in `VideoInfo.read`.

        Raises:
            InputError: A picture is damaged or of another size.
        """
        for number in numbers:
            yield self._read(self.path / self.files[number], channels)

    def read_decoded(self, numbers: Iterable[int], *, threads: int = 0) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """As `read` in RGB: pictures have no cheaper form."""
        return self.read(numbers, "rgb", threads=threads)

    def read_boxed(self, numbers: Iterable[int], *, threads: int = 0) -> Iterator[BoxedMask]:
        """As `read` of masks, only what they show."""
        return (boxed(mask) for mask in self.read(numbers, "mask", threads=threads))

    def _read(self, path: Path, channels: Channels) -> UInt8[np.ndarray, "..."]:
        with _opened(path) as picture:
            if picture.size != (self.width, self.height):
                found = f"{picture.width}x{picture.height}"
                raise InputError(f"{path}: expected {self.width}x{self.height} px as in {self.files[0]}, found {found}")
            try:
                return _mask(picture) if channels == "mask" else np.asarray(picture.convert(channels.upper()))
            except DECODE_ERRORS as error:
                raise InputError(f"{path}: expected a picture, found: {error}") from None


def scan_pictures(folder: Path) -> PictureFolder:
    """List the numbered pictures of a folder and look at the first one.

    Raises:
        InputError: No pictures, one without a number, a number missing or twice, or the first one is unreadable.
    """
    paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES]
    numbered: dict[int, str] = {}
    for path in sorted(paths):
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            raise InputError(f"{path}: expected a number in the name of each picture, found none")
        number = int(digits[-1])
        if number in numbered:
            raise InputError(f"{folder}: expected one picture {number}, found {numbered[number]} and {path.name}")
        numbered[number] = path.name
    if not numbered:
        raise InputError(f"{folder}: expected numbered pictures, found none")
    missing = sorted(set(range(min(numbered), max(numbered))) - set(numbered))
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{folder}: expected consecutive numbers, found none for {missing[0]}{others}")
    files = tuple(numbered[number] for number in sorted(numbered))
    with _opened(folder / files[0]) as first:
        has_alpha = first.mode in ("RGBA", "LA")
        return PictureFolder(path=folder, files=files, width=first.width, height=first.height, has_alpha=has_alpha)


def _opened(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
    except DECODE_ERRORS as error:
        found = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: expected a picture, found: {found}") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: expected a picture, found one that claims to be larger than any camera's") from None
    if picture.mode not in MODES:
        raise InputError(f"{path}: expected 8 bits a channel, found a picture of mode {picture.mode}")
    return picture


def _mask(picture: Image.Image) -> UInt8[np.ndarray, "h w"]:
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    values = np.asarray(picture)
    if picture.mode == "P":
        return np.where(values > 0, np.uint8(255), np.uint8(0))
    if values.ndim == 3:
        values = values[..., -1] if picture.mode in ("LA", "RGBA") else values[..., 0]
    return np.ascontiguousarray(values) if values.max() > 1 else values * np.uint8(255)
