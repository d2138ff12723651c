"""A part that is cut out of a decoded frame has the colours of the whole converted frame."""

from pathlib import Path

import numpy as np
import pytest
from videos import HEIGHT, WIDTH, write_video

from mouselift.data.boxed import PixelWindow
from mouselift.data.recording import cut_bgra, scan_video

WINDOWS = (PixelWindow(0, 0, WIDTH, HEIGHT), PixelWindow(17, 21, 50, 33), PixelWindow(41, 30, WIDTH, HEIGHT))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "gray"])
def test_a_part_has_the_colours_of_the_whole(tmp_path: Path, pixel_format: str, window: PixelWindow) -> None:
    info = scan_video(write_video(tmp_path / "a.mp4", 3, pixel_format=pixel_format))
    whole = list(info.read(range(3), "rgb"))
    for frame, expected in zip(info.read_decoded(range(3)), whole, strict=True):
        pixels, shown = cut_bgra(frame, window)
        assert shown.left <= window.left <= window.right <= shown.right
        assert shown.top <= window.top <= window.bottom <= shown.bottom
        assert np.array_equal(pixels[..., 2::-1], expected[shown.slices])
        pixels[..., 3] = 7  # the mask's place
    picture = whole[0]
    pixels, shown = cut_bgra(picture, window)
    assert shown == window
    assert np.array_equal(pixels[..., 2::-1], picture[window.slices])
