"""Decoded frames of which only a part becomes colours: converting whole frames would cost more than cutting crops."""

from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from mouselift.data.boxed import PixelWindow

Decoded = VideoFrame | np.ndarray  # of a video, or (H, W, 3) RGB of a picture file
CUTTABLE = frozenset({"yuv420p", "yuvj420p"})  # planes of bytes, colours at half of the resolution
ALIGNED = 16  # windows of these formats begin and end at multiples: as whole frames, they are converted the fast way


def cut_bgra(frame: Decoded, window: PixelWindow) -> tuple[UInt8[np.ndarray, "h w 4"], PixelWindow]:
    """The colours of a part of a frame, the same as those of the whole converted frame.

    Args:
        frame: As `read_frames` gives it.
        window: Inside the frame.

    Returns:
        BGR and a channel that may be written to, and the window that they show, which may be a little larger.
    """
    if isinstance(frame, np.ndarray):
        pixels = np.empty((window.bottom - window.top, window.right - window.left, 4), np.uint8)
        pixels[..., :3] = frame[window.slices][..., ::-1]
        return pixels, window
    if frame.format.name not in CUTTABLE:
        return np.array(_bgra(frame, frame)[window.slices]), window
    left, top = window.left // ALIGNED * ALIGNED, window.top // ALIGNED * ALIGNED
    right = min(-(-window.right // ALIGNED) * ALIGNED, frame.width)
    bottom = min(-(-window.bottom // ALIGNED) * ALIGNED, frame.height)
    part = VideoFrame(right - left, bottom - top, frame.format.name)
    for k, shrink in enumerate((1, 2, 2)):
        rows, columns = -(-(bottom - top) // shrink), -(-(right - left) // shrink)
        y, x = top // shrink, left // shrink
        _plane(part, k)[:rows, :columns] = _plane(frame, k)[y : y + rows, x : x + columns]
    return _bgra(part, frame), PixelWindow(left, top, right, bottom)


def _bgra(part: VideoFrame, whole: VideoFrame) -> UInt8[np.ndarray, "h w 4"]:
    """Converted as the whole frame would be: its colour space and range are the file's."""
    converted = VideoReformatter().reformat(
        part, format="bgra", src_colorspace=whole.colorspace, src_color_range=whole.color_range, threads=1
    )
    return _plane(converted, 0)[:, : 4 * part.width].reshape(part.height, part.width, 4)


def _plane(frame: VideoFrame, index: int) -> UInt8[np.ndarray, "rows bytes"]:
    plane: Any = frame.planes[index]  # offers the buffer protocol
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
