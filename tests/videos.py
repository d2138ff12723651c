"""Tiny videos whose frames carry their own number in black and white blocks."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BLOCK = 8
WIDTH, HEIGHT = 64, 48
TICKS = 100  # time stamps per frame period


def numbered_frame(number: int, camera: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """RGB; 16 bits of the number in the first two rows of blocks, 8 bits of the camera in the third."""
    bits = np.array([number >> k & 1 for k in range(16)] + [camera >> k & 1 for k in range(8)], np.uint8).reshape(3, 8)
    blocks = np.kron(bits * np.uint8(255), np.ones((BLOCK, BLOCK), np.uint8))
    frame = np.full((height, width, 3), 90, np.uint8)
    frame[: 3 * BLOCK, : 8 * BLOCK] = blocks[..., None]
    return frame


def read_number(frame: np.ndarray) -> tuple[int, int]:
    """The number and the camera that a decoded frame shows."""
    values = frame[: 3 * BLOCK, : 8 * BLOCK].reshape(3, BLOCK, 8, BLOCK, -1).mean(axis=(1, 3, 4)) > 127
    number = sum(int(bit) << k for k, bit in enumerate(values[:2].ravel()))
    return number, sum(int(bit) << k for k, bit in enumerate(values[2]))


def write_video(
    path: Path,
    frames: Sequence[np.ndarray] | int,
    *,
    first: int = 0,
    camera: int = 0,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    fps: int = 25,
    ticks: Callable[[int], int] = lambda k: k * TICKS,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    rotation: int = 0,
) -> Path:
    """Write frames, or that many numbered ones; H.264 with B-frames and a keyframe every 20 frames unless told."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(frames, int):
        frames = [numbered_frame(first + k, camera) for k in range(frames)]
    if options is None:
        options = {"g": "20", "bf": "3", "crf": "15", "sc_threshold": "0"} if codec == "libx264" else {}
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, fps * TICKS) if codec != "mpeg4" else Fraction(1, fps)
        if rotation:
            stream.set_display_rotation(rotation)
        for k, pixels in enumerate(frames):
            kind = {1: "gray", 3: "rgb24", 4: "rgba"}[1 if pixels.ndim == 2 else pixels.shape[2]]
            frame = av.VideoFrame.from_ndarray(pixels, format=kind)
            frame.pts = ticks(k) if codec != "mpeg4" else k
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
