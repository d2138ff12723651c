"""The overfit test learns what can be learnt, says FAIL where nothing was, and writes it all down."""

import json
from pathlib import Path

import pytest
import torch

from mouselift import cli
from mouselift.data.layout import Sample, write_dataset, write_sample
from mouselift.errors import InputError
from mouselift.geometry import Gaussians, Similarity, Views
from mouselift.geometry.rigs import orbit
from mouselift.models.checkpoint_io import load_gslrm
from mouselift.models.gslrm import GSLRMConfig
from mouselift.overfit import OverfitConfig, judge, overfit
from mouselift.synth.scene import photograph

SIZE_PX = 32
CONFIG = Path(__file__).parents[2] / "configs" / "overfit.yaml"
MODEL = GSLRMConfig(patch_size_px=4, width=64, num_layers=1, sh_degree=1, skip_empty_patches=True, start_from_hull=True)
FILES = ["curve.csv", "gslrm.safetensors", "pictures.png", "report.html", "verdict.json"]


def blob(seed: int) -> Gaussians:
    dice = torch.Generator().manual_seed(seed)
    means = torch.randn(300, 3, generator=dice) * torch.tensor([0.25, 0.12, 0.12])
    return Gaussians(
        means=means,
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(300, 1),
        scales=torch.full((300, 3), 0.05),
        opacities=torch.full((300,), 0.95),
        sh=(2 * means.sin())[:, None],  # coloured by place, as an animal is
    )


def sample(seed: int) -> Sample:
    rig = orbit([60.0 * i for i in range(6)], 25.0, fov_deg=40, size_px=SIZE_PX, names=list("abcdef"))
    return Sample(
        views=photograph(blob(seed), rig),
        sample_id=f"sample_{seed:06d}",
        frame_index=seed,
        scene_from_world=Similarity.identity(),
    )


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [sample(seed) for seed in range(2)]


def config(**changes: object) -> OverfitConfig:
    values = {"model": MODEL, "size_px": SIZE_PX, "steps": 80, "warmup_steps": 10, "bf16": False, "checks": 3}
    return OverfitConfig(**{**values, **changes})


def test_given_views_are_reproduced_and_the_left_out_camera_follows(samples) -> None:
    done = overfit(samples, config(enough_db=23.0), progress=False)
    first, last = done.curve[0], done.curve[-1]
    assert last.given_db > first.given_db + 3
    assert last.step == 80
    assert (done.given_names, done.left_out_name) == (tuple("abcde"), "f")
    assert done.given.batch_shape == (2, 5)
    assert set(done.left_out_figures) == {"gslrm", "visual_hull", "nearest_view", "mean_image", "blank"}
    assert done.verdict.passed, done.verdict.reasons


def test_training_is_repeatable(samples) -> None:
    one, two = (overfit(samples, config(steps=6), progress=False).curve[-1] for _ in range(2))
    assert (one.loss, one.given_db) == (two.loss, two.given_db)


def test_time_that_runs_out_ends_the_training(samples) -> None:
    done = overfit(samples, config(steps=100_000, max_minutes=0.02), progress=False)
    assert 0 < done.curve[-1].step < 100_000


@pytest.mark.parametrize(
    ("given", "left_out", "passed", "said"),
    [
        (36.0, {"gslrm": 22.0, "visual_hull": 19.0, "blank": 4.0}, True, "above the best baseline (visual_hull"),
        (34.9, {"gslrm": 22.0, "visual_hull": 19.0, "blank": 4.0}, False, "below the 35 dB"),
        (36.0, {"gslrm": 18.0, "visual_hull": 19.0, "blank": 4.0}, False, "not above the best baseline"),
        (36.0, {"gslrm": 4.5, "visual_hull": 3.0, "blank": 4.0}, False, "collapsed"),
        (float("nan"), {"gslrm": float("nan"), "visual_hull": 19.0, "blank": 4.0}, False, "collapsed"),
    ],
)
def test_the_verdict_needs_both(given, left_out, passed, said) -> None:
    verdict = judge(given, {method: torch.tensor([value]) for method, value in left_out.items()}, 35.0)
    assert verdict.passed is passed
    assert any(said in reason for reason in verdict.reasons)


def test_the_verdict_is_on_means_and_says_in_how_many_samples_they_hold() -> None:
    left_out = {"gslrm": torch.tensor([16.0, 24.0]), "visual_hull": torch.tensor([18.0, 18.0]), "blank": torch.zeros(2)}
    verdict = judge(36.0, left_out, 35.0)
    assert verdict.passed
    assert "above it in 1 of 2 samples" in verdict.reasons[1]


@pytest.mark.parametrize("left_out", [6, -7])
def test_a_camera_that_is_not_there_cannot_be_left_out(samples, left_out) -> None:
    with pytest.raises(InputError, match="to leave out"):
        overfit(samples, config(left_out=left_out), progress=False)


def test_a_given_view_must_show_the_animal(samples) -> None:
    views = samples[0].views
    empty = Views(images=views.images, masks=views.masks.clone(), cameras=views.cameras)
    empty.masks[2] = 0
    blind = Sample(views=empty, sample_id="blind", frame_index=0, scene_from_world=Similarity.identity())
    with pytest.raises(InputError, match=r"blind: expected the animal in every view, found none in \[2\]"):
        overfit([blind], config(), progress=False)


def test_the_command_writes_a_verdict(tmp_path: Path, monkeypatch, capsys, samples) -> None:
    root = tmp_path / "set"
    for one in samples:
        write_sample(
            root / one.sample_id,
            one.views,
            sample_id=one.sample_id,
            frame_index=one.frame_index,
            scene_from_world=one.scene_from_world,
        )
    write_dataset(root, {"train": [one.sample_id for one in samples], "val": []}, {})
    settings = f"size_px={SIZE_PX} steps=5 warmup_steps=1 bf16=false checks=2 model.width=64 model.num_layers=1"
    arguments = ["overfit", "--dataset", str(root), "-o", str(tmp_path / "out"), "--samples", "2"]
    arguments += ["--config", str(CONFIG), *settings.split()]
    monkeypatch.setattr("sys.argv", ["mouselift", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1  # five steps are not enough
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    record = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert record["verdict"] == "FAIL"
    assert record["given_views"] == list("abcde")
    assert record["left_out_view"] == "f"
    assert "FAIL after 5 steps" in capsys.readouterr().out
    assert load_gslrm(tmp_path / "out" / "gslrm.safetensors").config.sh_degree == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "not above" in page or "below the 35 dB" in page
