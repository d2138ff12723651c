"""`MouseDataset`: samples on disk -> `Views`."""

from pathlib import Path

import torch
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
    """

    def __init__(self, root: Path, split: str, limit: int | None = None) -> None:
        self.folders = list_samples(root, split)[:limit]
        self._cache: dict[int, tuple[Tensor, Cameras, Sample]] = {}

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> Sample:
        """One sample with all its views, straight colour with masks."""
        if index not in self._cache:
            sample = read_sample(self.folders[index])
            pixels = torch.cat([sample.views.images, sample.views.masks], dim=1).mul(255).round().byte()
            stub = Sample(
                views=sample.views[:0],
                sample_id=sample.sample_id,
                frame_index=sample.frame_index,
                scene_from_world=sample.scene_from_world,
                extra=sample.extra,
            )
            self._cache[index] = (pixels, sample.views.cameras, stub)
        pixels, cameras, stub = self._cache[index]
        values = pixels.float() / 255
        views = Views(images=values[:, :3], masks=values[:, 3:], cameras=cameras)
        return Sample(
            views=views,
            sample_id=stub.sample_id,
            frame_index=stub.frame_index,
            scene_from_world=stub.scene_from_world,
            extra=stub.extra,
        )
