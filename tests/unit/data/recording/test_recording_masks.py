"""Masks: lossy videos made clean, pictures of every kind, alpha."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import write_video

from mouselift.data.recording.masks import soft_mask
from mouselift.data.recording.pictures import scan_pictures
from mouselift.data.recording.video import read_video, scan_video
from mouselift.errors import InputError


def ellipse_coverage(height: int = 96, width: int = 128, fine: int = 8) -> np.ndarray:
    """The part of each pixel that a tilted ellipse covers."""
    rows, columns = (np.mgrid[: height * fine, : width * fine] + 0.5) / fine
    x, y = columns - 60.3, rows - 47.8
    u, v = 0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x
    inside = (u / 45) ** 2 + (v / 25) ** 2 < 1
    return inside.reshape(height, fine, width, fine).mean(axis=(1, 3))


@pytest.mark.parametrize("hard", [True, False], ids=["hard edges", "soft edges"])
@pytest.mark.parametrize("crf", ["18", "28"])
def test_lossy_mask_videos_become_clean(tmp_path: Path, hard: bool, crf: str) -> None:
    coverage = ellipse_coverage()
    drawn = 255 * (coverage >= 0.5 if hard else coverage)
    frame = np.repeat(drawn.round().astype(np.uint8)[..., None], 3, axis=2)
    info = scan_video(write_video(tmp_path / "m.mp4", [frame] * 3, options={"crf": crf}))
    for mask in read_video(info, range(3), "mask"):
        found = mask / 255
        edge = (coverage > 0) & (coverage < 1)
        inside, outside = coverage == 1, coverage == 0
        near = np.pad(edge, 2)
        near = np.max([np.roll(near, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)], axis=0)[2:-2, 2:-2]
        assert (found[inside & ~near] == 1).all()  # neither ringing nor noise is left
        assert (found[outside & ~near] == 0).all()
        bare = (coverage >= 0.5).astype(float)
        assert np.square(found - coverage)[edge].mean() < 0.5 * np.square(bare - coverage)[edge].mean()
        overlap = (found >= 0.5) & (coverage >= 0.5)
        assert overlap.sum() > 0.99 * ((found >= 0.5) | (coverage >= 0.5)).sum()


def test_the_soft_edge_is_a_pixel_wide_and_stays_in_place() -> None:
    luma = np.full((9, 12), 16, np.uint8)
    luma[:, 6:] = 235
    assert soft_mask(luma)[4, 4:8].tolist() == [0, 32, 223, 255]
    assert soft_mask(luma)[0].tolist() == soft_mask(luma)[4].tolist()  # nothing happens at the picture's border
    assert not soft_mask(np.full((5, 5), 60, np.uint8)).any()
    assert (soft_mask(np.full((5, 5), 200, np.uint8)) == 255).all()


@pytest.mark.parametrize(("codec", "pixel_format"), [("ffv1", "gray"), ("ffv1", "bgr0"), ("ffv1", "yuv420p10le")])
def test_mask_videos_of_other_formats(tmp_path: Path, codec: str, pixel_format: str) -> None:
    frame = np.zeros((48, 64), np.uint8)
    frame[10:30, 20:50] = 255
    rgb = np.repeat(frame[..., None], 3, axis=2)
    info = scan_video(write_video(tmp_path / "m.mkv", [rgb] * 2, codec=codec, pixel_format=pixel_format))
    for mask in read_video(info, range(2), "mask"):
        np.testing.assert_array_equal(mask >= 128, frame == 255)


def foreground() -> np.ndarray:
    mask = np.zeros((12, 16), np.uint8)
    mask[3:8, 4:10] = 255
    mask[3, 4:10] = 130
    return mask


def picture_kinds() -> dict[str, tuple[Image.Image, np.ndarray]]:
    soft, hard = foreground(), np.where(foreground() > 0, 255, 0).astype(np.uint8)
    rgb = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    palette = Image.fromarray((hard // 255 * 3).astype(np.uint8), "L").convert("P")
    palette = Image.fromarray((hard // 255 * 3).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 10, 10, 10, 9, 9, 9, 128, 0, 0])
    return {
        "grey": (Image.fromarray(soft), soft),
        "labels 0 and 1": (Image.fromarray(hard // 255), hard),
        "palette": (palette, hard),
        "one bit": (Image.fromarray(hard).convert("1"), hard),
        "RGB": (Image.fromarray(np.repeat(soft[..., None], 3, axis=2)), soft),
        "RGBA": (Image.fromarray(np.dstack([rgb, soft])), soft),
        "grey and alpha": (Image.merge("LA", [Image.fromarray(rgb[..., 0]), Image.fromarray(soft)]), soft),
    }


@pytest.mark.parametrize("kind", picture_kinds())
def test_mask_pictures(tmp_path: Path, kind: str) -> None:
    picture, expected = picture_kinds()[kind]
    for number in (7, 8, 9, 10):
        picture.save(tmp_path / f"mask_{number}.png")
    folder = scan_pictures(tmp_path)
    assert folder.files == ("mask_7.png", "mask_8.png", "mask_9.png", "mask_10.png")
    for mask in folder.read([0, 3], "mask"):
        np.testing.assert_array_equal(mask, expected)


def test_pictures_as_frames(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (12, 16, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "0.png")
    folder = scan_pictures(tmp_path)
    assert folder.has_alpha
    np.testing.assert_array_equal(next(folder.read([0], "rgba")), rgba)
    np.testing.assert_array_equal(next(folder.read([0], "rgb")), rgba[..., :3])


def grey(path: Path, size: tuple[int, int] = (16, 12), mode: str = "L") -> None:
    Image.new(mode, size).save(path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0.png", "1.png", "3.png"], "found none for 2"),
        (["0.png", "00.png"], "expected one picture 0"),
        (["0.png", "mask.png"], "mask.png: expected a number"),
        ([], "expected numbered pictures, found none"),
    ],
)
def test_pictures_without_order_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    for name in names:
        grey(tmp_path / name)
    with pytest.raises(InputError, match=said):
        scan_pictures(tmp_path)


def test_bad_pictures_are_refused(tmp_path: Path) -> None:
    grey(tmp_path / "0.png")
    grey(tmp_path / "1.png", size=(8, 8))
    (tmp_path / "2.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
    folder = scan_pictures(tmp_path)
    with pytest.raises(InputError, match=r"1\.png: expected 16x12 px as in 0\.png, found 8x8"):
        list(folder.read([1], "mask"))
    with pytest.raises(InputError, match=r"2\.png: expected a picture"):
        list(folder.read([2], "mask"))
    grey(tmp_path / "0.png", mode="I;16")
    with pytest.raises(InputError, match="expected 8 bits a channel, found a picture of mode I;16"):
        scan_pictures(tmp_path)
