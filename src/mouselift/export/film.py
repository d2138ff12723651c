"""Films of results: the pictures one after the other, and MP4, GIF and WebP files of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.export.picture import to_uint8
from mouselift.geometry import Cameras, Gaussians
from mouselift.geometry.rigs import (
    FACELIFT_FRONT_DEG,
    MOUSE_FOV_DEG,
    MOUSE_RIG_ELEVATION_DEG,
    RIG_RADIUS,
    turntable,
)
from mouselift.render import RenderOutput, render

ENCODER = {"crf": "18", "preset": "medium"}  # x264's constant quality: 18 is visually lossless
BT_709, LIMITED_RANGE = 1, 1  # FFmpeg's numbers for the colour space that players assume, and for 16..235
CODEC_THREADS = 2  # fixed, because the number of threads changes the bytes
BATCH = 8  # views rendered at a time
FILM_SUFFIXES = (".mp4", ".gif", ".webp")
WEBP_QUALITY, WEBP_EFFORT = 80, 4
GIF_COLOURS = 255  # of 256: one is left for what does not change
GIF_STEP_MS = 10  # GIF counts hundredths of a second

Layer = Callable[[RenderOutput, Cameras], Float[Tensor, "v 3 h w"]]


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
    )
    yield from film_frames([gaussians], cameras, background=background)


def film_frames(
    scenes: Sequence[Gaussians],
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    layer: Layer = lambda output, _: output.image,
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Render one frame for each camera; a sequence of scenes plays from its first to its last meanwhile.

    Args:
        scenes: One, or the instants of a sequence; no batch dimension, in one frame.
        cameras: (V,) one for each frame of the film.
        background: sRGB.
        layer: What to show of a render: its colours, or a picture of another layer (`mouselift.export.panels`).

    Yields:
        One frame after the other, sRGB.
    """
    instants = [k * len(scenes) // len(cameras) for k in range(len(cameras))]
    cameras = cameras.to(scenes[0].means.device)
    first = 0
    while first < len(cameras):
        last = first + 1
        while last < min(len(cameras), first + BATCH) and instants[last] == instants[first]:
            last += 1
        with torch.no_grad():
            shown = cameras[first:last]
            images = layer(render(scenes[instants[first]], shown, background), shown)
        for image in images:
            yield to_uint8(image)
        first = last


def write_animation(frames: Iterable[UInt8[np.ndarray, "h w 3"]], path: Path | str, fps: float) -> None:
    """Write a film in the format that the suffix names: .mp4, or .gif and .webp, which repeat for ever.

    A GIF has 255 colours, the same for all frames, and shows each frame for a whole number of hundredths of a
    second, so that 24 frames a second become 25.

    Args:
        frames: sRGB, all of one size.
        path: The file.
        fps: Frames a second.

    Raises:
        InputError: If the suffix is another one, or the file cannot be written.
        ValueError: If there are no frames, or their sizes differ.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".mp4":
        write_film(frames, path, fps)
        return
    if suffix not in FILM_SUFFIXES:
        raise InputError(f"{path}: expected a suffix among {', '.join(FILM_SUFFIXES)}, found {suffix or 'none'}")
    pictures = [Image.fromarray(pixels) for pixels in frames]
    if not pictures:
        raise ValueError("film: no frames")
    if len({picture.size for picture in pictures}) > 1:
        raise ValueError("film: frames of different sizes")
    duration_ms = 1000 / fps
    if suffix == ".gif":
        pictures = _in_few_colours(pictures)
        duration_ms = max(2, round(duration_ms / GIF_STEP_MS)) * GIF_STEP_MS  # browsers slow down what is faster
    options = {"quality": WEBP_QUALITY, "method": WEBP_EFFORT} if suffix == ".webp" else {"optimize": False}
    with atomic_path(path) as temporary:
        pictures[0].save(
            temporary,
            format=suffix[1:].upper(),
            save_all=True,
            append_images=pictures[1:],
            duration=round(duration_ms),
            loop=0,
            **options,
        )


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


def _in_few_colours(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """The frames in one palette, chosen from four of them, since a palette of each frame's own flickers.

    The background, which is what the first pixel shows, keeps its colour; Pillow alone would round and dither it.
    """
    chosen = [np.asarray(pictures[k]) for k in sorted({len(pictures) * k // 4 for k in range(4)})]
    palette = Image.fromarray(np.concatenate(chosen, axis=1)).quantize(GIF_COLOURS, method=Image.Quantize.MEDIANCUT)
    colours = np.array(palette.getpalette(), dtype=int).reshape(-1, 3)
    background = chosen[0][0, 0].astype(int)
    place = int(np.square(colours - background).sum(axis=-1).argmin())
    colours[place] = background
    palette.putpalette(colours.flatten().tolist())
    reduced = []
    for picture in pictures:
        indices = np.array(picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
        indices[(np.asarray(picture) == background).all(axis=-1)] = place
        reduced.append(Image.fromarray(indices))
        reduced[-1].putpalette(colours.flatten().tolist())
    return reduced
