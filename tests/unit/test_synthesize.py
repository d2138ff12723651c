"""Datasets of synthetic mice: complete, resumable, the same bytes for the same seed."""

from pathlib import Path

import pytest
from PIL import Image

from mouselift.data.layout import list_samples, read_sample
from mouselift.errors import InputError
from mouselift.export.dataset import CELL_PX, CONTACT_SHEET_FILE
from mouselift.synth import FurConfig, SynthConfig
from mouselift.synthesize import synthesize_dataset

CONFIG = SynthConfig(size_px=32, num_ring=2, num_framed=1, fur=FurConfig(num_hairs=2000, num_skin=4000))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_dataset_is_complete_and_resumable(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    synthesize_dataset(CONFIG, whole, 4, first_seed=7)
    synthesize_dataset(CONFIG, resumed, 2, first_seed=7)
    kept = (resumed / "sample_000000" / "opencv_cameras.json").stat().st_mtime_ns
    synthesize_dataset(CONFIG, resumed, 4, first_seed=7)
    assert contents(whole) == contents(resumed)
    assert (resumed / "sample_000000" / "opencv_cameras.json").stat().st_mtime_ns == kept
    train, val = list_samples(whole, "train"), list_samples(whole, "val")
    assert len(train) == 3
    assert len(val) == 1
    with Image.open(whole / CONTACT_SHEET_FILE) as sheet:
        assert sheet.size == (3 * CELL_PX, 4 * CELL_PX)
    sample = read_sample(val[0])
    assert sample.frame_index == 10
    assert sample.views.cameras.names == ("ring_0", "ring_1", "framed_0")
    assert len(sample.extra["keypoints_scene"]) == 22
    assert sample.extra["synth"]["seed"] == 10


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    synthesize_dataset(CONFIG, tmp_path / "one", 2)
    synthesize_dataset(CONFIG, tmp_path / "two", 2, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    synthesize_dataset(CONFIG, tmp_path, 1)
    with pytest.raises(InputError, match="use another folder"):
        synthesize_dataset(CONFIG, tmp_path, 1, first_seed=5)


def test_counts_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="num=0"):
        synthesize_dataset(CONFIG, tmp_path, 0)
