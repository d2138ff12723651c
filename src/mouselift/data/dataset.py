"""`MouseDataset`: samples on disk -> `Views`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mouselift.data.layout import Sample, list_samples, read_sample
from mouselift.geometry import Cameras, Views


class MouseDataset(Dataset[Sample]):
    """The samples of one split, kept in memory as 8-bit pixels once they have been read.

    Args:
        root: A dataset folder (docs/data_format.md).
        split: "train" or "val".
        limit: At most this many samples, the first ones.
        cache_gb: Samples beyond this much memory are read from the disk every time.
    """

    def __init__(self, root: Path, split: str, limit: int | None = None, *, cache_gb: float = float("inf")) -> None:
        self.folders = list_samples(root, split)[:limit]
        self._room = cache_gb * 1e9  # bytes
        self._cache: dict[int, tuple[UInt8[Tensor, "v 4 h w"], Cameras, Callable[..., Sample]]] = {}

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> Sample:
        """One sample with all its views, straight colour with masks."""
        compact = self._cache.get(index) or _compact(read_sample(self.folders[index]))
        pixels, cameras, sample_of = compact
        if index not in self._cache and pixels.nbytes <= self._room:
            self._cache[index] = compact
            self._room -= pixels.nbytes
        values = pixels.float() / 255
        return sample_of(views=Views(images=values[:, :3], masks=values[:, 3:], cameras=cameras))


def _compact(sample: Sample) -> tuple[UInt8[Tensor, "v 4 h w"], Cameras, Callable[..., Sample]]:
    """A sample with 8-bit pixels: no reference to its float pixels, which take four times the memory, may remain."""
    pixels = torch.cat([sample.views.images, sample.views.masks], dim=1).mul(255).round().byte()
    sample_of = partial(
        Sample,
        sample_id=sample.sample_id,
        frame_index=sample.frame_index,
        scene_from_world=sample.scene_from_world,
        extra=sample.extra,
    )
    return pixels, sample.views.cameras, sample_of
