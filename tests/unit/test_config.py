"""Strict configuration: nothing unknown, nothing out of range, nothing lost on the way to YAML and back."""

from pathlib import Path

import pytest

from mouselift.config import load_config, to_yaml
from mouselift.errors import InputError
from mouselift.overfit import OverfitConfig
from mouselift.synth.scene import SynthConfig
from mouselift.train.run import TrainConfig

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = {"synth": SynthConfig, "overfit": OverfitConfig}  # by the first word of the name; the others train
SHIPPED = [(KINDS.get(path.stem.split("_")[0], TrainConfig), path) for path in sorted(CONFIGS.glob("*.yaml"))]


@pytest.mark.parametrize(("kind", "path"), SHIPPED)
def test_every_shipped_configuration_is_valid_and_survives_a_round_trip(kind, path: Path, tmp_path: Path) -> None:
    config = load_config(kind, path)
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(config))
    assert load_config(kind, again) == config
    assert config != kind() or kind is OverfitConfig  # whose file spells its defaults out


def test_overrides_win_over_the_file_and_the_file_over_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("gslrm: {run: {steps: 5, seed: 7}}\n")
    (tmp_path / "top.yaml").write_text("base: base.yaml\ngslrm: {run: {steps: 6}}\n")
    config = load_config(TrainConfig, tmp_path / "top.yaml", ["gslrm.run.batch_size=3", "data.root=elsewhere"])
    assert (config.gslrm.run.steps, config.gslrm.run.seed, config.gslrm.run.batch_size) == (6, 7, 3)
    assert config.data.root == "elsewhere"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("gslrm: {run: {stepz: 5}}", "unknown key gslrm.run.stepz"),
        ("colour: blue", "unknown key colour"),
        ("gslrm: {run: {steps: many}}", "gslrm.run.steps"),
        ("gslrm: {run: {steps: 0}}", "at least 1"),
        ("gslrm: {model: {width: 100}}", "not a multiple"),
        ("gslrm: 3", "gslrm"),
        ("- a list", "expected `key: value` lines"),
        ("a: [unclosed", "expected YAML"),
        ("base: nowhere.yaml", "found none at"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=says) as error:
        load_config(TrainConfig, path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("override", ["steps", "gslrm.run.steps.deep=1", "gslrm.run.nothing=1"])
def test_wrong_overrides_are_refused(override: str) -> None:
    with pytest.raises(InputError):
        load_config(TrainConfig, None, ["gslrm.run.steps=3", override])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none at"):
        load_config(TrainConfig, tmp_path / "nowhere.yaml")
