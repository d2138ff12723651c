"""The configurations that a lab starts from, and training on several datasets at once."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch
from blobs import write_blobs

from mouselift.config import load_config
from mouselift.data.dataset import DataRoot, MouseDataset, mixed
from mouselift.errors import InputError
from mouselift.models.gslrm import GSLRM
from mouselift.train.groups import describe_groups
from mouselift.train.order import sample_indices
from mouselift.train.run import TrainConfig, run_training

CONFIGS = Path(__file__).parents[3] / "configs"
STARTING_POINTS = ("mouse_config", "finetune_facelift", "pretrain_objects", "from_scratch")


@pytest.mark.parametrize("name", STARTING_POINTS)
def test_every_starting_point_builds_and_its_groups_match(name: str) -> None:
    config = load_config(TrainConfig, CONFIGS / f"{name}.yaml")
    with torch.device("meta"):
        model = GSLRM(config.gslrm.model)
    lines = describe_groups(model, config.gslrm.run.groups)
    assert any(line.startswith("everything else: rate x 1") for line in lines)


def test_fine_tuning_keeps_the_published_sizes_and_freezes_the_tokeniser() -> None:
    config = load_config(TrainConfig, CONFIGS / "finetune_facelift.yaml")
    with torch.device("meta"):
        model = GSLRM(config.gslrm.model)
    assert sum(p.numel() for p in model.parameters()) == 303_565_824
    lines = describe_groups(model, config.gslrm.run.groups)
    assert lines[0] == "patch_embedder*: frozen, 589,824 parameters in 1 tensors"
    assert lines[2].startswith("transformer_layers.{16..23}*: rate x 3, ")


@pytest.mark.parametrize("name", ["pretrain_objects", "from_scratch"])
def test_a_starting_point_trains(name: str, tmp_path: Path) -> None:
    roots = [write_blobs(tmp_path / f"data_{i}") for i in range(2)]
    small = [
        "gslrm.model.width=32", "gslrm.model.head_dim=16", "gslrm.model.num_layers=1", "gslrm.model.context_size_px=32",
        "gslrm.task.size_px=32", "gslrm.task.crop_share=0.5", "gslrm.task.perceptual_weight=0", "gslrm.run.device=cpu",
        "gslrm.run.steps=2", "gslrm.run.batch_size=2", "gslrm.run.accumulation=1", "gslrm.run.validation_samples=2",
        "gslrm.run.skip_norm=1e6", "gslrm.run.workers=0", "gslrm.run.trackers=[]",
        "gslrm.run.groups=[{match: 'patch_embedder*', frozen: true}]",
        f"data.roots=[{{path: {roots[0]}, share: 3}}, {{path: {roots[1]}}}]",
    ]  # fmt: skip
    state = run_training("gslrm", load_config(TrainConfig, CONFIGS / f"{name}.yaml", small), tmp_path / "run")
    assert state.step == 2
    assert (tmp_path / "run" / "panels" / "latest_turntable.png").is_file()


def paths(name: str, count: int) -> list[Path]:
    return [Path(f"{name}/{i}") for i in range(count)]


def test_shares_are_kept_and_nobody_is_left_out() -> None:
    parts = [paths("a", 10), paths("b", 4), paths("c", 7)]
    made = mixed(parts, [3.0, 1.0, 2.0])
    counts = Counter(path.parent.name for path in made)
    assert set(made) == set(itertools.chain(*parts))
    assert counts["a"] / counts["b"] == pytest.approx(3, rel=0.1)
    assert counts["c"] / counts["b"] == pytest.approx(2, rel=0.1)
    repeats = Counter(made)
    for part in parts:  # no sample is seen more than once more than its neighbours
        assert max(repeats[p] for p in part) - min(repeats[p] for p in part) <= 1


def test_parts_alternate_so_that_the_first_samples_are_of_all() -> None:
    made = mixed([paths("a", 300), paths("b", 100)], [3.0, 1.0])
    assert len(made) == 400
    for start in range(0, 400, 40):
        counts = Counter(path.parent.name for path in made[start : start + 40])
        assert counts["b"] == pytest.approx(10, abs=1)


def test_one_dataset_stays_as_it_is() -> None:
    part = paths("a", 17)
    assert mixed([part], [0.3]) == part


def test_held_out_samples_come_once_and_the_order_follows_from_the_seed(tmp_path: Path) -> None:
    roots = [DataRoot(path=str(write_blobs(tmp_path / name)), share=share) for name, share in (("a", 3), ("b", 1))]
    held_out, training = MouseDataset(roots, "val"), MouseDataset(roots, "train")
    assert len(held_out) == len(set(held_out.folders)) == 4
    assert Counter(folder.parent.name for folder in training.folders) == {"a": 12, "b": 4}
    seen = [training.folders[i] for i in sample_indices(len(training), seed=5, first=0, count=16)]
    assert Counter(folder.parent.name for folder in seen) == {"a": 12, "b": 4}


@pytest.mark.parametrize("share", [0.0, -1.0])
def test_shares_must_be_positive(share: float) -> None:
    with pytest.raises(InputError, match="positive share"):
        DataRoot(path="a", share=share)
