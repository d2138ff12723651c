"""The mask of a picture that was taken badly. `pytest -s` prints the table of docs/foreground.md.

The true mask is a projection of the body that the picture was rendered from (scripts/render_demo_picture.py).
"""

import importlib.util
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mouselift.data.foreground import check_single_subject, clean_mask, segment_foreground
from mouselift.errors import InputError

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "rembg")),
    reason="needs the extra: foreground",
)

Picture = np.ndarray  # (H, W, 3) RGB uint8


def demo() -> Picture:
    picture = cv2.imread(str(resources.files("mouselift").joinpath("assets", "demo_mouse.jpg")))
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def truth(shape: tuple[int, ...]) -> np.ndarray:
    outline = json.loads(Path(__file__).with_name("demo_mouse_outline.json").read_text())["outline"]
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [((np.array(outline) - 0.5) * 16).round().astype(np.int32)], 1, shift=4)
    return mask > 0


def exposed(gamma: float) -> Callable[[Picture], Picture]:
    return lambda picture: ((picture / 255) ** gamma * 255).round().astype(np.uint8)


def infrared(picture: Picture) -> Picture:
    """Grey, dark and flat, as a camera behind an infra-red filter."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.repeat((15 + grey * 0.35).astype(np.uint8)[..., None], 3, axis=-1)


def noisy(picture: Picture) -> Picture:
    noise = np.random.default_rng(0).normal(0, 25, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


def moved(picture: Picture) -> Picture:
    """Blur of a motion of 15 px along the picture's rows."""
    return cv2.blur(picture, (15, 1))


def small(picture: Picture) -> Picture:
    """192 px wide, brought back to the old size."""
    height, width = picture.shape[:2]
    return cv2.resize(cv2.resize(picture, (192, 144), interpolation=cv2.INTER_AREA), (width, height))


def compressed(picture: Picture) -> Picture:
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 8])
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def tail_hidden(picture: Picture) -> Picture:
    """A block in front of the tail's middle."""
    result = picture.copy()
    result[250:330, 560:660] = (150, 140, 120)
    return result


def on_bedding(picture: Picture) -> Picture:
    """The floor full of chips: bright and dark short lines everywhere but on the animal."""
    dice = np.random.default_rng(1)
    chips = picture.copy()
    for _ in range(2500):
        x, y, angle, length = dice.uniform((0, 0, 0, 8), (picture.shape[1], picture.shape[0], np.pi, 22))
        end = int(x + length * np.cos(angle)), int(y + length * np.sin(angle))
        grey = int(dice.uniform(90, 230))
        cv2.line(chips, (int(x), int(y)), end, (grey, grey, int(0.85 * grey)), 4, cv2.LINE_AA)
    return np.where(truth(picture.shape)[..., None], picture, chips)


CORRUPTED: dict[str, tuple[Callable[[Picture], Picture], float]] = {
    "as it is": (lambda picture: picture, 0.87),
    "under-exposed, gamma 2.5": (exposed(2.5), 0.86),
    "over-exposed, gamma 0.4": (exposed(0.4), 0.86),
    "infra-red grey": (infrared, 0.81),
    "noise of 25 grey values": (noisy, 0.86),
    "motion blur of 15 px": (moved, 0.84),
    "192 px wide": (small, 0.86),
    "JPEG quality 8": (compressed, 0.84),
    "tail hidden in the middle": (tail_hidden, 0.81),
    "on bedding": (on_bedding, 0.87),
}  # the lowest IoU that passes


@pytest.mark.parametrize("name", CORRUPTED)
def test_badly_taken_pictures_keep_their_mask(name: str) -> None:
    corrupt, lowest = CORRUPTED[name]
    picture = corrupt(demo())
    soft = segment_foreground(torch.from_numpy(picture).permute(2, 0, 1).float() / 255)
    check_single_subject(soft)
    mask, true = (clean_mask(soft)[0] > 0.5).numpy(), truth(picture.shape)
    overlap = np.count_nonzero(mask & true) / np.count_nonzero(mask | true)
    print(f"| {name} | {overlap:.3f} |")
    assert overlap > lowest


def test_two_mice_are_refused_in_one_line() -> None:
    picture = demo()
    pair = cv2.resize(np.concatenate([picture, picture], axis=1), (768, 288), interpolation=cv2.INTER_AREA)
    with pytest.raises(InputError, match=r"^expected one mouse, found 2 .*--box.*--mask[^\n]*$"):
        segment_foreground(torch.from_numpy(pair).permute(2, 0, 1).float() / 255)


def test_an_empty_bench_is_refused_in_one_line() -> None:
    floor = demo()[420:576, 100:400]
    with pytest.raises(InputError, match=r"^expected [^\n]*--box.*--mask[^\n]*$"):
        check_single_subject(segment_foreground(torch.from_numpy(floor.copy()).permute(2, 0, 1).float() / 255))
