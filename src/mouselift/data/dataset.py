"""`MouseDataset`: samples on disk -> `Views`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mouselift.data.layout import Sample, list_samples, read_sample
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Views


@dataclass(frozen=True, kw_only=True)
class DataRoot:
    """One of several datasets that are trained on together."""

    path: str
    share: float = 1.0
    """Of the training samples that are seen, relative to the shares of the others."""

    def __post_init__(self) -> None:
        if not 0 < self.share < math.inf:
            raise InputError(f"{self.path}: expected a positive share, found {self.share}")


class MouseDataset(Dataset[Sample]):
    """The samples of one split, kept in memory as 8-bit pixels once they have been read.

    Of several datasets, training samples are repeated evenly until each dataset has its share; held-out samples come
    once each. Either way the datasets alternate in a fixed order.

    Args:
        root: A dataset folder (docs/data_format.md), or several with their shares.
        split: "train" or "val".
        limit: At most this many samples, the first ones.
        cache_gb: Samples beyond this much memory are read from the disk every time.
    """

    def __init__(
        self,
        root: Path | Sequence[DataRoot],
        split: str,
        limit: int | None = None,
        *,
        cache_gb: float = float("inf"),
    ) -> None:
        roots = [DataRoot(path=str(root))] if isinstance(root, Path) else list(root)
        folders = [list_samples(Path(part.path), split) for part in roots]
        shares = [part.share if split == "train" else float(len(its)) for part, its in zip(roots, folders, strict=True)]
        self.folders = mixed(folders, shares)[:limit]
        self._room = cache_gb * 1e9  # bytes
        self._cache: dict[Path, tuple[UInt8[Tensor, "v 4 h w"], Cameras, Callable[..., Sample]]] = {}

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> Sample:
        """One sample with all its views, straight colour with masks."""
        folder = self.folders[index]
        compact = self._cache.get(folder) or _compact(read_sample(folder))
        pixels, cameras, sample_of = compact
        if folder not in self._cache and pixels.nbytes <= self._room:
            self._cache[folder] = compact
            self._room -= pixels.nbytes
        values = pixels.float() / 255
        return sample_of(views=Views(images=values[:, :3], masks=values[:, 3:], cameras=cameras))


def mixed(parts: Sequence[Sequence[Path]], shares: Sequence[float]) -> list[Path]:
    """The shortest list with every member of every part in it, each part taking its share, evenly spread.

    Args:
        parts: None of them empty.
        shares: Positive, of any sum.
    """
    length = max(len(part) / share for part, share in zip(parts, shares, strict=True))
    placed = []
    for number, (part, share) in enumerate(zip(parts, shares, strict=True)):
        count = max(len(part), round(share * length))
        placed += [((k + 0.5) / count, number, part[k % len(part)]) for k in range(count)]
    return [path for _, _, path in sorted(placed, key=lambda place: place[:2])]


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
