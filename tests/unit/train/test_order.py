"""The order of the data: every epoch whole, the same for any number of threads and processes."""

from dataclasses import replace
from pathlib import Path

import pytest
from blobs import write_blobs

from mouselift.data.dataset import MouseDataset
from mouselift.train.order import SampleStream, sample_indices
from mouselift.train.run_config import RunConfig

RUN = RunConfig(steps=3, batch_size=3, accumulation=4, workers=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> MouseDataset:
    return MouseDataset(write_blobs(tmp_path_factory.mktemp("dataset")), "train")


def test_every_epoch_visits_every_sample_once() -> None:
    order = sample_indices(7, seed=3, first=0, count=21)
    for epoch in range(3):
        assert sorted(order[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert order[:7] != order[7:14]
    assert sample_indices(7, seed=3, first=5, count=4) == order[5:9]


def taken(data: MouseDataset, config: RunConfig, first_step: int = 0, rank: int = 0, world: int = 1) -> list[list[str]]:
    count = (config.steps - first_step) * config.accumulation // world
    with SampleStream(data, config, first_step, rank, world) as stream:
        return [[sample.sample_id for sample in stream.take()] for _ in range(count)]


def test_threads_change_nothing(data: MouseDataset) -> None:
    assert taken(data, replace(RUN, workers=3)) == taken(data, RUN)


def test_a_resumed_stream_goes_on_where_the_step_begins(data: MouseDataset) -> None:
    assert taken(data, RUN, first_step=2) == taken(data, RUN)[2 * RUN.accumulation :]


def test_processes_deal_the_micro_batches_out(data: MouseDataset) -> None:
    alone, first, second = taken(data, RUN), taken(data, RUN, 0, 0, 2), taken(data, RUN, 0, 1, 2)
    assert [batch for pair in zip(first, second, strict=True) for batch in pair] == alone


def test_a_small_cache_gives_the_same_samples(data: MouseDataset) -> None:
    uncached = MouseDataset(data.folders[0].parent, "train", cache_gb=0)
    assert taken(uncached, RUN) == taken(data, RUN)
    assert not uncached._cache


def test_a_sample_that_cannot_be_read_stops_the_stream(tmp_path: Path) -> None:
    data = MouseDataset(write_blobs(tmp_path), "train")
    (data.folders[0] / "opencv_cameras.json").write_text("{")
    with pytest.raises(ValueError, match=data.folders[0].name):
        taken(data, replace(RUN, workers=2))
