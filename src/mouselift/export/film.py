"""Films of results: MP4 that plays in browsers."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from mouselift.atomic import atomic_path
from mouselift.export.picture import to_uint8
from mouselift.geometry import Gaussians
from mouselift.geometry.rigs import (
    FACELIFT_FRONT_DEG,
    MOUSE_FOV_DEG,
    MOUSE_RIG_ELEVATION_DEG,
    RIG_RADIUS,
    turntable,
)
from mouselift.render import render

ENCODER = {"crf": "18", "preset": "medium"}  # x264's constant quality: 18 is visually lossless
BT_709, LIMITED_RANGE = 1, 1  # FFmpeg's numbers for the colour space that players assume, and for 16..235
CODEC_THREADS = 2  # fixed, because the number of threads changes the bytes
BATCH = 8  # views rendered at a time


def turntable_frames(
    gaussians: Gaussians,
    *,
    num_frames: int = 120,
    size_px: int = 512,
    elevation_deg: float = MOUSE_RIG_ELEVATION_DEG,
    fov_deg: float = MOUSE_FOV_DEG,
    radius: float = RIG_RADIUS,
    start_azimuth_deg: float = FACELIFT_FRONT_DEG,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Render one scene from a full circle of cameras, counter-clockwise; the end joins the beginning.

    Args:
        gaussians: No batch dimension, scene frame.
        num_frames: Frames of the circle.
        size_px: Width and height.
        elevation_deg: Of the cameras above the horizontal plane.
        fov_deg: Field of view.
        radius: Distance from the origin, scene units.
        start_azimuth_deg: Where the first camera stands.
        background: sRGB.

    Yields:
        One frame after the other, sRGB.
    """
    cameras = turntable(
        num_frames,
        start_azimuth_deg=start_azimuth_deg,
        elevation_deg=elevation_deg,
        radius=radius,
        fov_deg=fov_deg,
        size_px=size_px,
    ).to(gaussians.means.device)
    for first in range(0, num_frames, BATCH):
        with torch.no_grad():
            images = render(gaussians, cameras[first : first + BATCH], background).image
        for image in images:
            yield to_uint8(image)


def write_film(frames: Iterable[UInt8[np.ndarray, "h w 3"]], path: Path | str, fps: float) -> None:
    """Write an H.264 film, yuv420p, index in front, so that browsers play it while it loads.

    Args:
        frames: sRGB, all of one size; an odd side is extended by one pixel, since the codec wants even ones.
        path: The .mp4 file.
        fps: Frames a second.

    Raises:
        InputError: If the file cannot be written.
        ValueError: If there are no frames, or their sizes differ.
    """
    import av

    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise ValueError("film: no frames")
    height, width = (side + side % 2 for side in first.shape[:2])
    muxer = {"movflags": "+faststart", "fflags": "+bitexact"}  # bitexact: no version strings in the file
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options=muxer) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=ENCODER)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        codec = stream.codec_context
        codec.thread_count = CODEC_THREADS
        codec.colorspace = codec.color_primaries = codec.color_trc = BT_709
        codec.color_range = LIMITED_RANGE
        for pixels in chain([first], remaining):
            if pixels.shape != first.shape:
                raise ValueError(f"film: frames of different sizes, {first.shape} and {pixels.shape}")
            padding = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
            frame = av.VideoFrame.from_ndarray(np.pad(pixels, padding, mode="edge"), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=BT_709, dst_color_range=LIMITED_RANGE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
