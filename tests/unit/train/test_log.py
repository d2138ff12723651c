"""Logs without doubles, panels by name, trackers that are there or say how to get them, alarms."""

import csv
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mouselift.errors import InputError
from mouselift.train.alarms import TrainingError, Window, collapse, warn_of_starvation, watch_collapse
from mouselift.train.checkpoint import TrainState
from mouselift.train.log import TrainLog
from mouselift.train.run_config import RunConfig


def rows(folder: Path) -> list[tuple[int, str, float]]:
    with (folder / "log.csv").open() as file:
        return [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def test_rows_beyond_the_resumed_step_are_written_once(tmp_path: Path) -> None:
    with TrainLog(tmp_path) as log:
        for step in (1, 2, 3, 4):
            log.write(step, step / 10, {"loss": 1.0 / step})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("5,0.5,lo")  # killed while it wrote
    with TrainLog(tmp_path, step=2) as log:
        for step in (3, 4):
            log.write(step, step / 10, {"loss": 2.0 / step})
    assert rows(tmp_path) == [(1, "loss", 1.0), (2, "loss", 0.5), (3, "loss", 0.666667), (4, "loss", 0.5)]


def test_panels_have_names(tmp_path: Path) -> None:
    with TrainLog(tmp_path) as log:
        log.panels(7, {"": torch.zeros(3, 4, 5), "turntable": torch.ones(3, 4, 6)})
    found = {path.name for path in (tmp_path / "panels").iterdir()}
    assert found == {"0000007.png", "latest.png", "0000007_turntable.png", "latest_turntable.png"}


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_get_figures_and_panels(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    run = SimpleNamespace(log=lambda values, step: said.append((step, values)), finish=lambda: said.append("end"))
    package = SimpleNamespace(
        init=lambda **settings: said.append(settings) or run, Image=lambda pixels: np.asarray(pixels).shape
    )
    monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with TrainLog(tmp_path, trackers=[name]) as log:
        log.write(3, 0.1, {"loss": 0.5})
        log.panels(3, {"": torch.zeros(3, 4, 5)})
    settings, *rest = said
    assert settings["name"] == tmp_path.name
    assert settings.get("mode") == ("offline" if name == "wandb" else None)
    assert rest == [(3, {"loss": 0.5}), (3, {"panels/validation": (4, 5, 3)}), "end"]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_missing_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"pip install 'mouselift\[{name}\]'"):
        TrainLog(tmp_path, trackers=[name])


def test_a_collapsed_model_is_recognised() -> None:
    assert collapse({"psnr_fg": 9.5, "blank_psnr_fg": 9.0}, "psnr_fg") == "psnr_fg is 9.50, a blank picture gets 9.00"
    assert collapse({"psnr_fg": 10.5, "blank_psnr_fg": 9.0}, "psnr_fg") is None
    assert "mean alpha is 0.0010" in (collapse({"s": 1.0, "mean_alpha": 0.001, "mean_mask": 0.1}, "s") or "")
    assert collapse({"s": 1.0, "mean_alpha": 0.09, "mean_mask": 0.1}, "s") is None
    assert collapse({"s": 1.0}, "s") is None


def test_a_collapsed_run_is_stopped_after_the_warm_up_and_not_by_one_bad_validation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = RunConfig(warmup_steps=10, collapse_patience=2)
    bad, good = {"s": 9.0, "blank_s": 9.0}, {"s": 19.0, "blank_s": 9.0}
    state = TrainState(step=5)
    assert watch_collapse(bad, "s", state, config) is None
    assert state.collapsed == 0
    state.step = 20
    with caplog.at_level(logging.WARNING):
        assert watch_collapse(bad, "s", state, config) is None
    assert "looks collapsed (1 in a row)" in caplog.text
    assert watch_collapse(good, "s", state, config) is None
    assert watch_collapse(bad, "s", state, config) is None
    assert "collapsed: in 2 validations in a row s is 9.00" in (watch_collapse(bad, "s", state, config) or "")


def test_skipped_steps_and_starvation(caplog: pytest.LogCaptureFixture) -> None:
    window = Window()
    for skipped in (False, False, False, True):
        window.add(skipped=skipped, seconds=2.0, waited_s=0.5)
    assert window.figures() == {"step_s": 2.0, "waiting_share": 0.25}
    with pytest.raises(TrainingError, match="1 of the last 4 steps were skipped"):
        window.check_skipped()
    with caplog.at_level(logging.WARNING):
        warn_of_starvation(0.25)
        assert not caplog.text
        warn_of_starvation(0.31)
    assert "31 % of the time goes by waiting for samples" in caplog.text
