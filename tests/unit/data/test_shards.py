"""A dataset goes into shards and back, byte for byte."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mouselift.data.layout import encode_png, list_samples, write_dataset, write_sample_pictures
from mouselift.data.shards import read_shards, write_shards
from mouselift.errors import InputError
from mouselift.geometry import Similarity
from mouselift.geometry.rigs import orbit


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root, cameras = tmp_path / "dataset", orbit([0.0, 90.0], size_px=16, names=["left", "right"])
    names = [f"sample_{k:06d}" for k in range(5)]
    for k, name in enumerate(names):
        pictures = [encode_png(np.full((16, 16, 4), 10 * k + v, np.uint8)) for v in range(2)]
        world = Similarity(scale=torch.tensor(1.0), rotation=torch.eye(3), translation=torch.zeros(3))
        write_sample_pictures(root / name, pictures, cameras, sample_id=name, frame_index=k, scene_from_world=world)
    write_dataset(root, {"train": names[:3], "val": names[3:]}, {"made_by": "a test"})
    return root


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_there_and_back(dataset: Path, tmp_path: Path) -> None:
    assert write_shards(dataset, tmp_path / "shards", 2, progress=False) == 3
    names = sorted(path.name for path in (tmp_path / "shards").glob("*.tar"))
    assert names == ["train-000000.tar", "train-000001.tar", "val-000000.tar"]
    assert read_shards(tmp_path / "shards", tmp_path / "back", progress=False) == 5
    assert tree(tmp_path / "back") == tree(dataset)
    before = tree(tmp_path / "shards")
    shutil.rmtree(tmp_path / "shards")
    write_shards(tmp_path / "back", tmp_path / "shards", 2, progress=False)
    assert tree(tmp_path / "shards") == before
    shutil.rmtree(tmp_path / "back" / "sample_000002")
    assert read_shards(tmp_path / "shards", tmp_path / "back", progress=False) == 5  # what is missing is unpacked
    assert tree(tmp_path / "back") == tree(dataset)


def test_webdataset_groups_the_files_of_a_sample(dataset: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    write_shards(dataset, tmp_path / "shards", 2, progress=False)
    urls = [str(path) for path in sorted((tmp_path / "shards").glob("train-*.tar"))]
    found = {item["__key__"]: item for item in webdataset.WebDataset(urls, shardshuffle=False)}
    assert list(found) == [folder.name for folder in list_samples(dataset, "train")]
    item = found["sample_000001"]
    assert item["cam_001.png"] == (dataset / "sample_000001" / "images" / "cam_001.png").read_bytes()
    assert item["opencv_cameras.json"].startswith(b"{")


def test_what_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected shards"):
        read_shards(tmp_path, tmp_path / "back")
    write_shards(dataset, tmp_path / "shards", 2, progress=False)
    (tmp_path / "shards" / "train-000001.tar").unlink()
    with pytest.raises(InputError, match="found none of 1; the first is sample_000002"):
        read_shards(tmp_path / "shards", tmp_path / "back", progress=False)
    assert not (tmp_path / "back" / "dataset.json").exists()
    with tarfile.open(tmp_path / "shards" / "train-000001.tar", "w") as tar:
        entry = tarfile.TarInfo("../../evil.png")
        tar.addfile(entry)
    with pytest.raises(InputError, match="expected files of samples"):
        read_shards(tmp_path / "shards", tmp_path / "back", progress=False)
    (tmp_path / "shards" / "train-000001.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match="expected a tar file of samples"):
        read_shards(tmp_path / "shards", tmp_path / "back", progress=False)
    (dataset / "dataset.json").unlink()
    with pytest.raises(InputError, match="expected a finished dataset"):
        write_shards(dataset, tmp_path / "again")
    assert not (tmp_path / "again").exists()
