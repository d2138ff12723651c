"""Datasets as tar files in WebDataset's layout, for clusters that read few large files; and back, byte for byte."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from mouselift.atomic import atomic_folder, atomic_path
from mouselift.data.layout import CAMERA_FILE, DATASET_FILE, SPLIT_FILES, list_samples
from mouselift.errors import InputError

SHARD_SAMPLES = 100  # six views of 512 px: about 20 MB
PATTERN = "{split}-{number:06d}.tar"


def write_shards(dataset: Path, out: Path, samples_per_shard: int = SHARD_SAMPLES, *, progress: bool = True) -> int:
    """Pack the samples of both splits, in the order of their lists, into `train-000000.tar` and so on.

    In a shard, the files of a sample share its name up to the first dot, which is what WebDataset groups by:
    `sample_000000.opencv_cameras.json`, `sample_000000.cam_000.png`, ... The same dataset gives the same bytes.
    `dataset.json` and the lists lie beside the shards.

    Args:
        dataset: A finished dataset.
        out: The folder of the shards; an earlier one is replaced once all is written.
        samples_per_shard: At most.
        progress: Show a bar.

    Returns:
        How many shards there are.

    Raises:
        InputError: No finished dataset, or the disk fails.
    """
    if samples_per_shard < 1:
        raise InputError(f"expected at least one sample in a shard, found {samples_per_shard}")
    record = dataset / DATASET_FILE
    if not record.is_file():
        raise InputError(f"expected a finished dataset with {DATASET_FILE}, found none at {dataset}")
    splits = {split: _samples(dataset, split) for split in SPLIT_FILES}
    count = 0
    with (
        atomic_folder(out) as folder,
        tqdm(
            total=sum(map(len, splits.values())), desc="pack", unit="sample", disable=None if progress else True
        ) as bar,
    ):
        for split, samples in splits.items():
            for number, start in enumerate(range(0, len(samples), samples_per_shard)):
                with tarfile.open(
                    folder / PATTERN.format(split=split, number=number), "w", format=tarfile.USTAR_FORMAT
                ) as tar:
                    for sample in samples[start : start + samples_per_shard]:
                        _pack(tar, sample)
                        bar.update()
                count += 1
        for name in (*SPLIT_FILES.values(), DATASET_FILE):
            if (dataset / name).is_file():
                (folder / name).write_bytes((dataset / name).read_bytes())
    return count


def read_shards(shards: Path, out: Path, *, progress: bool = True) -> int:
    """Unpack shards into a dataset; samples that are there already are left as they are.

    Args:
        shards: A folder from `write_shards`.
        out: The dataset folder; made when missing.
        progress: Show a bar.

    Returns:
        How many samples there are.

    Raises:
        InputError: No such folder, a shard is damaged or missing, or the disk fails.
    """
    files = sorted(shards.glob("*.tar"))
    if not files or not (shards / DATASET_FILE).is_file():
        raise InputError(f"expected shards and {DATASET_FILE}, found none at {shards}")
    wanted = [name for file in SPLIT_FILES.values() if (shards / file).is_file() for name in _lines(shards / file)]
    found: set[str] = set()
    for file in tqdm(files, desc="unpack", unit="shard", disable=None if progress else True):
        try:
            with tarfile.open(file) as tar:
                found |= _unpack(tar, file, out)
        except tarfile.TarError as error:
            raise InputError(f"{file}: expected a tar file of samples, found: {error}") from None
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(
            f"{shards}: expected all listed samples, found none of {len(missing)}; the first is {missing[0]}"
        )
    for name in (*SPLIT_FILES.values(), DATASET_FILE):  # the record last: its presence says that all is there
        if (shards / name).is_file():
            with atomic_path(out / name) as partial:
                partial.write_bytes((shards / name).read_bytes())
    return len(found)


def _samples(dataset: Path, split: str) -> Sequence[Path]:
    """An empty list is no error: a dataset may hold out nothing."""
    file = dataset / SPLIT_FILES[split]
    return list_samples(dataset, split) if file.is_file() and file.read_text().strip() else ()


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text().split("\n") if line]


def _pack(tar: tarfile.TarFile, sample: Path) -> None:
    cameras = sample / CAMERA_FILE
    try:
        frames = json.loads(cameras.read_text())["frames"]
        contents = [(CAMERA_FILE, cameras.read_bytes())]
        contents += [(PurePosixPath(f["file_path"]).name, (sample / f["file_path"]).read_bytes()) for f in frames]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{cameras}: expected a whole sample, found {type(error).__name__}: {error}") from None
    for name, content in contents:
        entry = tarfile.TarInfo(f"{sample.name}.{name}")
        entry.size, entry.mode = len(content), 0o644  # no times, no owners: the same samples, the same bytes
        tar.addfile(entry, io.BytesIO(content))


def _unpack(tar: tarfile.TarFile, file: Path, out: Path) -> set[str]:
    samples: dict[str, dict[str, bytes]] = {}
    for entry in tar:
        name, _, rest = entry.name.partition(".")
        stream = tar.extractfile(entry) if entry.isfile() else None
        if stream is None or not rest or name != PurePosixPath(name).name or rest != PurePosixPath(rest).name:
            raise InputError(
                f"{file}: expected files of samples such as sample_000000.cam_000.png, found {entry.name!r}"
            )
        samples.setdefault(name, {})[rest] = stream.read()
    for name, contents in samples.items():
        if CAMERA_FILE not in contents:
            raise InputError(f"{file}: expected {CAMERA_FILE} of {name}, found none")
        if (out / name / CAMERA_FILE).is_file():
            continue
        with atomic_folder(out / name) as folder:
            (folder / "images").mkdir()
            for rest, content in contents.items():
                (folder / rest if rest == CAMERA_FILE else folder / "images" / rest).write_bytes(content)
    return set(samples)
