"""What one camera recorded: files that follow each other, as one row of numbered frames."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mouselift.data.boxed import BoxedMask
from mouselift.data.recording.decoded import Decoded
from mouselift.data.recording.pictures import PictureFolder, scan_pictures
from mouselift.data.recording.video import Channels, Gap, VideoInfo, scan_video

Part = VideoInfo | PictureFolder


@dataclass(frozen=True, kw_only=True, eq=False)
class Footage:
    """Frames of one camera, or its masks; frame numbers run on from part to part.

    Attributes:
        parts: At least one, in order of time.
        promised_starts: The first frame of each part as its file name says, where a layout names files so.
    """

    parts: tuple[Part, ...]
    promised_starts: tuple[int, ...] | None = None

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The number of the first frame of each part."""
        return tuple(accumulate((part.num_frames for part in self.parts[:-1]), initial=0))

    @property
    def num_frames(self) -> int:
        """Frames of all parts."""
        return sum(part.num_frames for part in self.parts)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, of the first part."""
        return self.parts[0].width, self.parts[0].height

    @property
    def has_alpha(self) -> bool:
        """Whether all parts carry transparency."""
        return all(part.has_alpha for part in self.parts)

    @property
    def videos(self) -> tuple[VideoInfo, ...]:
        """Those parts that are videos."""
        return tuple(part for part in self.parts if isinstance(part, VideoInfo))

    @property
    def fps(self) -> float | None:
        """Frames a second of the first video that tells."""
        return next((video.fps for video in self.videos if video.fps), None)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Missing frames, counted over all parts."""
        return tuple(
            Gap(start + gap.after, gap.missing)
            for start, part in zip(self.starts, self.parts, strict=True)
            if isinstance(part, VideoInfo)
            for gap in part.gaps
        )

    def read(
        self, numbers: Iterable[int], channels: Channels, *, threads: int = 0
    ) -> Iterator[UInt8[np.ndarray, "..."]]:
        """Read frames in one pass; a part is opened when its first frame is wanted and closed after its last one.

        Args:
            numbers: Frame numbers that never decrease, each below `num_frames`.
            channels: As in `read_video`.
            threads: Of a video's decoder; 0 leaves it to FFmpeg.

        Raises:
            InputError: A frame cannot be read; the message names file and frame.
        """
        for index, wanted in groupby(numbers, self._part_of):
            yield from self.parts[index].read((n - self.starts[index] for n in wanted), channels, threads=threads)

    def read_decoded(self, numbers: Iterable[int], *, threads: int = 0) -> Iterator[Decoded]:
        """As `read`, with colours that are converted when a part is cut out: `cut_bgra`."""
        for index, wanted in groupby(numbers, self._part_of):
            yield from self.parts[index].read_decoded((n - self.starts[index] for n in wanted), threads=threads)

    def read_boxed(self, numbers: Iterable[int], *, threads: int = 0) -> Iterator[BoxedMask]:
        """As `read` of masks, only what they show."""
        for index, wanted in groupby(numbers, self._part_of):
            yield from self.parts[index].read_boxed((n - self.starts[index] for n in wanted), threads=threads)

    def _part_of(self, number: int) -> int:
        return int(np.searchsorted(self.starts, number, side="right")) - 1


def scan_footage(paths: Sequence[Path], *, named_by_first_frame: bool = False) -> Footage:
    """Scan the video files or picture folders of one camera.

    Args:
        paths: In order of time.
        named_by_first_frame: File names are numbers: of the first frame that the file holds.

    Raises:
        InputError: One of them cannot be read.
    """
    return Footage(
        parts=tuple(scan_pictures(path) if path.is_dir() else scan_video(path) for path in paths),
        promised_starts=tuple(int(path.stem) for path in paths) if named_by_first_frame else None,
    )
