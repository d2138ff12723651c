"""Video files: what is in them, found without decoding, and frames decoded by their exact numbers."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Int64, UInt8

from mouselift.data.boxed import BoxedMask
from mouselift.data.recording.masks import soft_box, soft_mask
from mouselift.errors import InputError

Channels = Literal["rgb", "rgba", "mask"]
Item = TypeVar("Item")
PIXEL_FORMATS = {"rgb": ("rgb24", 3), "rgba": ("rgba", 4), "mask": ("gray", 1)}
IRREGULAR = 0.5  # of the frame period: an interval that differs by more is a gap or a sign of a variable rate
MANY = 0.05  # of all intervals: with more irregular ones than this, the rate varies
SEEKABLE = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})  # containers that know where keyframes lie
WORTH_A_SEEK = 16  # frames: less than that is decoded through, since a decoder starts with a delay


@dataclass(frozen=True)
class Gap:
    """Frames that time stamps show to be missing: `missing` of them after frame number `after`."""

    after: int
    missing: int


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoInfo:
    """One video file, as its packets and its first frame show it.

    Attributes:
        path: The file.
        num_frames: Frames that a player shows; numbers go from 0, in the order of presentation.
        width: Pixels.
        height: Pixels.
        fps: Frames a second, from the time stamps, missing frames counted; None without time stamps.
        codec: FFmpeg's name of the codec.
        pixel_format: FFmpeg's name of the stored pixel format.
        bit_depth: Of the stored colours; more than 8 are converted to 8.
        has_alpha: Whether pixels carry transparency.
        rotation_deg: What the file's metadata ask a player to turn the picture by; decoding does not.
        gaps: Missing frames.
        variable: Whether intervals between frames vary so much that they tell nothing of missing frames.
        keyframes: Numbers of the frames where decoding may start: only 0 where a container has no index of them.
        timestamps: Presentation time of each frame in the stream's units, increasing; None where a container (AVI)
            does not hold them: frames are then counted from the beginning.
    """

    path: Path
    num_frames: int
    width: int
    height: int
    fps: float | None
    codec: str
    pixel_format: str
    bit_depth: int
    has_alpha: bool
    rotation_deg: int
    gaps: tuple[Gap, ...]
    variable: bool
    keyframes: Int64[np.ndarray, " k"]
    timestamps: Int64[np.ndarray, " n"] | None

    def read(
        self, numbers: Iterable[int], channels: Channels, *, threads: int = 0
    ) -> Iterator[UInt8[np.ndarray, "..."]]:
        """Decode these frames; see `read_video`."""
        return read_video(self, numbers, channels, threads=threads)

    def read_decoded(self, numbers: Iterable[int], *, threads: int = 0) -> Iterator[VideoFrame]:
        """Decode these frames and convert nothing; see `read_video`."""
        return _read(self, numbers, lambda frame: frame, threads)

    def read_boxed(self, numbers: Iterable[int], *, threads: int = 0) -> Iterator[BoxedMask]:
        """Decode these frames as masks, only what they show; see `read_video`."""
        reformatter = VideoReformatter()
        return _read(self, numbers, lambda frame: _box(frame, reformatter), threads)


def _box(frame: VideoFrame, reformatter: VideoReformatter) -> BoxedMask:
    if not _has_luma_plane(frame):
        frame = reformatter.reformat(frame, format="gray", threads=1)
    return soft_box(_rows(frame)[:, : frame.width])


def scan_video(path: Path | str) -> VideoInfo:
    """Look at the packets of a video file and at its first frame; audio is ignored.

    Raises:
        InputError: The file is missing, empty, truncated or damaged, or holds no video that can be decoded.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        packets, first = _packets(path, container, stream)
        stamps, is_key, in_order = _ordered(packets, container.format.name)
        period = _period(stamps)
        _refuse_truncated(path, container, stream, len(packets), stamps, period)
        gaps, variable = _irregularities(stamps, period)
        span = len(stamps) - 1 + sum(gap.missing for gap in gaps)
        ticks_per_s = float(1 / stream.time_base) if stream.time_base else 1.0
        seekable = in_order and container.format.name in SEEKABLE
        components = first.format.components
        return VideoInfo(
            path=path,
            num_frames=len(stamps),
            width=first.width,
            height=first.height,
            fps=span / float(stamps[-1] - stamps[0]) * ticks_per_s if period else None,
            codec=stream.codec_context.name,
            pixel_format=first.format.name,
            bit_depth=max(component.bits for component in components),
            has_alpha=any(component.is_alpha for component in components),
            rotation_deg=first.rotation,
            gaps=gaps,
            variable=variable,
            keyframes=np.flatnonzero(is_key).astype(np.int64) if seekable else np.zeros(1, np.int64),
            timestamps=stamps if in_order else None,
        )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: expected a video, found an empty file (0 bytes)")
        container = av.open(str(path))
    except InvalidDataError:
        raise InputError(f"{path}: expected a video, found no readable one (cut off while recording?)") from None
    except (OSError, FFmpegError) as error:
        raise InputError(f"{path}: expected a video, found: {error.strerror}") from None
    with container:
        if not container.streams.video:
            kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
            raise InputError(f"{path}: expected a video stream, found {kinds} (cut off while recording?)")
        yield container, container.streams.video[0]


def _packets(
    path: Path, container: InputContainer, stream: VideoStream
) -> tuple[list[tuple[int | None, int | None, bool]], VideoFrame]:
    """(pts, dts, is key) of each packet that shows a frame, in the file's order, and the first frame."""
    packets: list[tuple[int | None, int | None, bool]] = []
    first: VideoFrame | None = None
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise InputError(f"{path}: cut off or damaged at frame {len(packets)}")
            if first is None:
                first = next(iter(packet.decode()), None)
            if packet.size and not packet.is_discard:  # size 0: the end; discard: before an edit list's start
                packets.append((packet.pts, packet.dts, packet.is_keyframe))
    except FFmpegError as error:
        raise InputError(f"{path}: damaged at frame {len(packets)}: {error.strerror}") from None
    if first is None or not packets:
        raise InputError(f"{path}: expected frames of video, found none that can be decoded")
    return packets, first


def _ordered(
    packets: list[tuple[int | None, int | None, bool]], container_format: str
) -> tuple[Int64[np.ndarray, " n"], np.ndarray, bool]:
    """Time stamps and key flags in the order of presentation, and whether the decoder's frames carry these stamps."""
    keys = np.array([key for _, _, key in packets])
    presented = [pts for pts, _, _ in packets if pts is not None]
    # AVI stores no presentation times, and FFmpeg's guesses are right only when frames are not reordered.
    reliable = len(set(presented)) == len(packets) and (container_format != "avi" or bool(keys.all()))
    if reliable:
        order = np.argsort(presented)
        return np.array(presented, np.int64)[order], keys[order], True
    decoded = [dts for _, dts, _ in packets if dts is not None]
    stamps = sorted(decoded) if len(decoded) == len(packets) else range(len(packets))
    return np.array(stamps, np.int64), keys, False


def _period(stamps: Int64[np.ndarray, " n"]) -> float:
    """The usual interval between frames; 0 if unknown."""
    return float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0


def _refuse_truncated(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    num_packets: int,
    stamps: Int64[np.ndarray, " n"],
    period: float,
) -> None:
    """Compare what the header promises with what is there; files trimmed by an edit list promise more packets only."""
    if stream.duration is not None and stream.time_base:
        promised = float(stream.duration)
    elif container.duration and stream.time_base and len(container.streams) == 1:
        promised = container.duration / av.time_base / float(stream.time_base)
    else:
        return
    start = stream.start_time or 0
    missing = (start + promised - (float(stamps[-1]) + period)) / period if period else 0.0
    if missing > 1 and num_packets != stream.frames:
        total = num_packets + round(missing)
        raise InputError(f"{path}: expected about {total} frames as its header says, found {num_packets}: cut off")


def _irregularities(stamps: Int64[np.ndarray, " n"], period: float) -> tuple[tuple[Gap, ...], bool]:
    """Missing frames, or else that the rate varies."""
    if not period:
        return (), False
    intervals = np.diff(stamps) / period
    irregular = np.abs(intervals - 1) > IRREGULAR
    if (intervals < IRREGULAR).any() or irregular.sum() > max(1, MANY * len(intervals)):
        return (), True
    return tuple(Gap(int(i), round(float(intervals[i])) - 1) for i in np.flatnonzero(irregular)), False


def read_video(
    info: VideoInfo, numbers: Iterable[int], channels: Channels, *, threads: int = 0
) -> Iterator[UInt8[np.ndarray, "..."]]:
    """Decode frames in one pass: forward, over what is not wanted, from keyframe to keyframe where that is far.

    Args:
        info: From `scan_video`.
        numbers: Frame numbers that never decrease, each below `info.num_frames`.
        channels: "rgb" (H, W, 3), "rgba" (H, W, 4), or "mask" (H, W) as `soft_mask` makes it of the brightness.
        threads: Of the codec; 0 leaves it to FFmpeg.

    Yields:
        One array for each number. It may share the decoder's memory: do not write to it.

    Raises:
        InputError: A frame cannot be decoded; the message names file and frame.
    """
    reformatter = VideoReformatter()
    return _read(info, numbers, lambda frame: _picture(frame, channels, reformatter), threads)


def _read(
    info: VideoInfo, numbers: Iterable[int], convert: Callable[[VideoFrame], Item], threads: int
) -> Iterator[Item]:
    with _opened(info.path) as (container, stream):
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        decoder = _Decoder(info, container, stream)
        number, picture = -1, None
        for wanted in numbers:
            if picture is None or wanted != number:
                number, picture = wanted, convert(decoder.frame(wanted))
            yield picture


class _Decoder:
    """Walks forward through one open video."""

    def __init__(self, info: VideoInfo, container: InputContainer, stream: VideoStream) -> None:
        self._info, self._container, self._stream = info, container, stream
        self._number = -1  # of the frame that the decoder gave last
        self._whole_from = 0  # after a seek, frames before the keyframe may lack what they refer to
        self._frames: Iterator[VideoFrame] = container.decode(stream)

    def frame(self, wanted: int) -> VideoFrame:
        key = int(np.searchsorted(self._info.keyframes, wanted, side="right")) - 1
        frame = None
        if key > 0 and int(self._info.keyframes[key]) > self._number + WORTH_A_SEEK:
            frame = self._seek(key)
        while frame is None or self._number < wanted:
            frame = self._next(wanted)
        if self._number != wanted:
            raise InputError(f"{self._info.path}: frame {wanted} cannot be decoded")
        self._check_size(frame)
        return frame

    def _seek(self, key: int) -> VideoFrame:
        """Go to keyframe number `key`; containers may land later than asked, then try earlier ones."""
        timestamps = self._info.timestamps
        assert timestamps is not None  # without them the only keyframe is frame 0
        for earlier in range(key, -1, -1):
            self._whole_from = int(self._info.keyframes[earlier])
            self._container.seek(int(timestamps[self._whole_from]), stream=self._stream)
            self._frames = self._container.decode(self._stream)
            frame = self._next(self._whole_from)
            if self._number == self._whole_from:
                return frame
        raise InputError(f"{self._info.path}: expected to find keyframe {self._info.keyframes[key]}, found none")

    def _next(self, wanted: int) -> VideoFrame:
        path = self._info.path
        try:
            for frame in self._frames:
                number = self._number_of(frame)
                if number < self._whole_from:
                    continue
                if frame.is_corrupt:
                    raise InputError(f"{path}: damaged at frame {number}")
                self._number = number
                return frame
        except FFmpegError as error:
            near = max(self._number + 1, self._whole_from)
            raise InputError(f"{path}: damaged at or after frame {near}: {error.strerror}") from None
        raise InputError(f"{path}: expected frame {wanted}, found the end after frame {self._number}")

    def _number_of(self, frame: VideoFrame) -> int:
        timestamps = self._info.timestamps
        if timestamps is None:
            return self._number + 1
        number = int(np.searchsorted(timestamps, frame.pts)) if frame.pts is not None else len(timestamps)
        if number == len(timestamps) or timestamps[number] != frame.pts:
            raise InputError(f"{self._info.path}: expected frames at the times that its packets say, found {frame.pts}")
        return number

    def _check_size(self, frame: VideoFrame) -> None:
        size, expected = (frame.width, frame.height), (self._info.width, self._info.height)
        if size != expected:
            raise InputError(
                f"{self._info.path}: expected {expected[0]}x{expected[1]} px throughout, "
                f"found {size[0]}x{size[1]} at frame {self._number}"
            )


def _picture(frame: VideoFrame, channels: Channels, reformatter: VideoReformatter) -> UInt8[np.ndarray, "..."]:
    pixel_format, depth = PIXEL_FORMATS[channels]
    if channels != "mask" or not _has_luma_plane(frame):
        frame = reformatter.reformat(frame, format=pixel_format, threads=1)  # cameras already run side by side
    pixels = np.ascontiguousarray(_rows(frame)[:, : frame.width * depth])
    return soft_mask(pixels) if channels == "mask" else pixels.reshape(frame.height, frame.width, depth)


def _rows(frame: VideoFrame) -> UInt8[np.ndarray, "h bytes"]:
    """Of the first plane."""
    plane: Any = frame.planes[0]  # offers the buffer protocol
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height]


def _has_luma_plane(frame: VideoFrame) -> bool:
    """Whether the first plane is 8-bit brightness, as in yuv420p and gray: then a mask needs no conversion."""
    first, *others = frame.format.components
    return first.bits == 8 and not frame.format.is_rgb and all(other.plane != first.plane for other in others)
