"""Every kind of picture that users have, good and bad, made on the spot."""

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from mouselift.data.picture import read_picture
from mouselift.errors import InputError

WIDTH, HEIGHT = 48, 40


def ramp(channels: int = 3) -> np.ndarray:
    """A picture whose every pixel is different, with channels that do not mirror each other."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    layers = [5 * columns, 6 * rows, 255 - 3 * (rows + columns) // 2, 2 * rows + 3 * columns]
    return np.stack(layers[:channels], axis=-1).astype(np.uint8)


def disc(low: int = 0, high: int = 255) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.where((rows - 20) ** 2 + (columns - 24) ** 2 < 120, high, low).astype(np.uint8)


def save(folder: Path, name: str, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(folder / name, **options)
    return folder / name


# ---- what is read


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.bmp", "a.ppm"])
def test_lossless_colour_is_read_exactly(tmp_path: Path, name: str) -> None:
    picture = read_picture(save(tmp_path, name, ramp()))
    np.testing.assert_allclose(picture.image.numpy(), ramp().transpose(2, 0, 1) / 255, atol=1e-6)
    assert picture.mask is None
    assert picture.source == tmp_path / name


@pytest.mark.parametrize(("name", "options"), [("a.jpg", {"quality": 95}), ("a.webp", {"quality": 95})])
def test_lossy_colour_is_read(tmp_path: Path, name: str, options: dict[str, int]) -> None:
    picture = read_picture(save(tmp_path, name, ramp(), **options))
    assert (picture.image - torch.from_numpy(ramp()).permute(2, 0, 1) / 255).abs().mean() < 0.02


def test_alpha_becomes_the_mask(tmp_path: Path) -> None:
    pixels = np.dstack([ramp(), disc()])
    picture = read_picture(save(tmp_path, "a.png", pixels))
    assert picture.mask is not None
    np.testing.assert_array_equal(picture.mask[0].numpy(), disc() / 255)
    np.testing.assert_allclose(picture.image.numpy(), ramp().transpose(2, 0, 1) / 255, atol=1e-6)


def test_opaque_alpha_is_no_mask(tmp_path: Path) -> None:
    opaque = np.dstack([ramp(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    assert read_picture(save(tmp_path, "a.png", opaque)).mask is None


def test_palette_transparency_becomes_the_mask(tmp_path: Path) -> None:
    indexed = Image.fromarray(disc(0, 1), mode="P")
    indexed.putpalette([0, 0, 255, 200, 100, 50])
    picture = read_picture(save(tmp_path, "a.png", indexed, transparency=0))
    assert picture.mask is not None
    np.testing.assert_array_equal(picture.mask[0].numpy(), disc() / 255)
    np.testing.assert_allclose(picture.image[:, 20, 24].numpy(), np.array([200, 100, 50]) / 255, atol=1e-6)


def test_grey_has_three_equal_channels(tmp_path: Path) -> None:
    picture = read_picture(save(tmp_path, "a.png", ramp()[..., 0]))
    assert torch.equal(picture.image[0], picture.image[2])
    np.testing.assert_allclose(picture.image[1].numpy(), ramp()[..., 0] / 255, atol=1e-6)


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bit_grey_keeps_its_precision(tmp_path: Path, name: str) -> None:
    deep = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 34
    picture = read_picture(save(tmp_path, name, deep))
    np.testing.assert_allclose(picture.image[0].numpy(), deep / 65535, atol=1e-6)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    cmyk = Image.fromarray(ramp()).convert("CMYK")
    picture = read_picture(save(tmp_path, "a.tiff", cmyk))
    np.testing.assert_allclose(picture.image.numpy(), ramp().transpose(2, 0, 1) / 255, atol=1 / 255)


def test_a_colour_profile_is_applied(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    linear = _linear_profile()
    plain = read_picture(save(tmp_path, "srgb.png", ramp(), icc_profile=lab)).image
    np.testing.assert_allclose(plain.numpy(), ramp().transpose(2, 0, 1) / 255, atol=1e-6)
    brighter = read_picture(save(tmp_path, "linear.png", ramp(), icc_profile=linear)).image
    linear_grey = 100 / 255
    expected = 1.055 * linear_grey ** (1 / 2.4) - 0.055  # sRGB's transfer function, IEC 61966-2-1
    row, column = np.argwhere(ramp()[..., 0] == 100)[0]
    assert brighter[0, row, column] == pytest.approx(expected, abs=0.03)


def _linear_profile() -> bytes:
    """An sRGB profile whose tone curves are replaced by the identity (a `curv` tag of gamma 1)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    for tag in range(count):
        entry = 132 + 12 * tag
        offset = int.from_bytes(profile[entry + 4 : entry + 8], "big")
        if profile[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            profile[offset : offset + 12] = b"curv" + bytes(4) + bytes(4)  # no entries: the identity
            profile[entry + 8 : entry + 12] = (12).to_bytes(4, "big")
        if profile[entry : entry + 4] == b"desc":
            start = profile.find("sRGB".encode("utf-16-be"), offset)
            profile[start : start + 8] = "test".encode("utf-16-be")
    return bytes(profile)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    undo = {  # what a camera held that way would have stored
        1: lambda p: p,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo(ramp()))
    picture = read_picture(save(tmp_path, "a.png", stored, exif=exif))
    np.testing.assert_allclose(picture.image.numpy(), ramp().transpose(2, 0, 1) / 255, atol=1e-6)


# ---- mask files


def test_a_mask_file_takes_precedence_over_alpha(tmp_path: Path) -> None:
    half = np.zeros((HEIGHT, WIDTH), np.uint8)
    half[:, :10] = 255
    path = save(tmp_path, "a.png", np.dstack([ramp(), disc()]))
    picture = read_picture(path, save(tmp_path, "mask.png", half))
    assert picture.mask is not None
    np.testing.assert_array_equal(picture.mask[0].numpy(), half / 255)


def test_labels_of_any_value_are_a_mask(tmp_path: Path) -> None:
    path = save(tmp_path, "a.png", ramp())
    picture = read_picture(path, save(tmp_path, "mask.png", disc(0, 1)))
    assert picture.mask is not None
    np.testing.assert_array_equal(picture.mask[0].numpy(), disc() / 255)


def test_a_soft_mask_stays_soft(tmp_path: Path) -> None:
    soft = ramp()[..., 1]
    picture = read_picture(save(tmp_path, "a.png", ramp()), save(tmp_path, "mask.png", soft))
    assert picture.mask is not None
    np.testing.assert_allclose(picture.mask[0].numpy(), soft / 255, atol=1e-6)


# ---- what is refused


def _missing(folder: Path) -> Path:
    return folder / "none.png"


def _folder(folder: Path) -> Path:
    return folder


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.png")
    return folder / "pipe.png"


def _empty(folder: Path) -> Path:
    (folder / "a.png").touch()
    return folder / "a.png"


def _text(folder: Path) -> Path:
    (folder / "a.png").write_text("this is no picture\n" * 20)
    return folder / "a.png"


def _postscript(folder: Path) -> Path:
    return save(folder, "a.eps", ramp())


def _truncated(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = save(folder, name, ramp())
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return path

    return make


def _one_pixel(folder: Path) -> Path:
    return save(folder, "a.png", np.zeros((1, 1, 3), np.uint8))


def _too_long(folder: Path) -> Path:
    return save(folder, "a.png", Image.new("1", (20000, 40)))


def _too_many_pixels(folder: Path) -> Path:
    return save(folder, "a.png", Image.new("1", (12000, 12000)))


def _bomb(folder: Path) -> Path:
    return save(folder, "a.png", Image.new("1", (20000, 20000)))


def _animated(folder: Path) -> Path:
    frames = [Image.fromarray(np.roll(ramp(), 8 * k, axis=1)) for k in range(3)]
    return save(folder, "a.gif", frames[0], save_all=True, append_images=frames[1:])


def _two_pages(folder: Path) -> Path:
    pages = [Image.fromarray(ramp()), Image.fromarray(ramp()[::-1])]
    return save(folder, "a.tiff", pages[0], save_all=True, append_images=pages[1:])


def _floating_point(folder: Path) -> Path:
    return save(folder, "a.tiff", Image.fromarray(ramp()[..., 0].astype(np.float32)))


def _negative(folder: Path) -> Path:
    return save(folder, "a.tiff", Image.fromarray(ramp()[..., 0].astype(np.int32) - 7))


def _invisible(folder: Path) -> Path:
    return save(folder, "a.png", np.dstack([ramp(), np.zeros((HEIGHT, WIDTH), np.uint8)]))


BAD_PICTURES = [
    (_missing, "expected a picture, found no such file"),
    (_folder, "expected a picture, found a folder"),
    (_fifo, "found something that is no regular file"),
    (_empty, "found an empty file"),
    (_text, "found another kind of file"),
    (_postscript, "found another kind of file"),
    (_truncated("a.png"), "found a damaged or truncated file"),
    (_truncated("a.jpg"), "found a damaged or truncated file"),
    (_truncated("a.webp"), "found a"),
    (_truncated("a.bmp"), "found a damaged or truncated file"),
    (_one_pixel, "expected at least 32 px on the shorter side, found 1x1"),
    (_too_long, "expected at most 16384 px a side, found 20000x40"),
    (_too_many_pixels, "expected at most 100 megapixels, found 12000x12000"),
    (_bomb, "expected at most 100 megapixels, found"),
    (_animated, "expected one still picture, found 3 frames"),
    (_two_pages, "expected one still picture, found 2 frames"),
    (_floating_point, "expected a picture of 8 or 16 bits a channel, found the mode F"),
    (_negative, "expected grey of at most 16 bits"),
    (_invisible, "found an empty one"),
]


@pytest.mark.parametrize(("make", "complaint"), BAD_PICTURES)
def test_bad_pictures_are_refused_with_one_line(tmp_path: Path, make: Callable[[Path], Path], complaint: str) -> None:
    path = make(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a decompression bomb must not warn on its way
        with pytest.raises(InputError) as caught:
            read_picture(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert complaint in message
    assert "\n" not in message


def test_an_unreadable_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, "a.png", ramp())

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("PIL.Image.open", denied)  # chmod does not stop the superuser, who may run the tests
    with pytest.raises(InputError, match="found permission denied"):
        read_picture(path)


def test_bad_sizes_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _too_many_pixels(tmp_path)

    def decode(*_: object) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(InputError, match="100 megapixels"):
        read_picture(path)


BAD_MASKS = [
    (np.zeros((HEIGHT, WIDTH), np.uint8), "found an empty one"),
    (np.full((HEIGHT, WIDTH), 255, np.uint8), "found one that covers all"),
    (disc()[:, :40], "expected a mask of the picture's size 48x40, found 40x40"),
]


@pytest.mark.parametrize(("mask", "complaint"), BAD_MASKS)
def test_bad_masks_are_refused(tmp_path: Path, mask: np.ndarray, complaint: str) -> None:
    path, mask_path = save(tmp_path, "a.png", ramp()), save(tmp_path, "mask.png", mask)
    with pytest.raises(InputError) as caught:
        read_picture(path, mask_path)
    assert str(caught.value).startswith(str(mask_path))
    assert complaint in str(caught.value)


def test_a_missing_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png: expected a mask picture, found no such file"):
        read_picture(save(tmp_path, "a.png", ramp()), tmp_path / "none.png")


@given(
    kind=st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"]),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_files_never_end_in_another_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, damage: list[tuple[float, int]]
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(ramp()).save(buffer, format=kind)
    data = bytearray(buffer.getvalue())
    for where, value in damage:
        data[int(where * len(data))] = value
    path = tmp_path_factory.mktemp("damaged") / "a.bin"
    path.write_bytes(data)
    try:
        picture = read_picture(path)
    except InputError:
        return
    assert torch.isfinite(picture.image).all()
