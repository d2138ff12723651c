"""Reading weights: every damaged or foreign file is refused in one line."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mouselift.config import to_dict
from mouselift.errors import InputError
from mouselift.models.checkpoint_io import load_gslrm, read_record, save_weights
from mouselift.models.gslrm import GSLRM, GSLRMConfig

TINY = GSLRMConfig(width=64, head_dim=64, num_layers=1, skip_empty_patches=True)


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path("bomb_went_off").touch, ())


def write_bomb(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def write_wrong_model(path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3, 3)}, path)


def write_list(path: Path) -> None:
    torch.save([torch.zeros(3)], path)


def write_stray_value(path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3, 3), "epoch": 3}, path)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".pt", write_bomb),
        (".pt", write_wrong_model),
        (".pt", write_list),
        (".pt", write_stray_value),
        (".pt", lambda path: path.write_bytes(b"")),
        (".pt", lambda path: path.write_bytes(b"not a checkpoint")),
        (".safetensors", lambda path: path.write_bytes(b"")),
        (".safetensors", lambda path: path.write_bytes(b"\xff" * 64)),
        (".safetensors", lambda path: None),
        (".pt", lambda path: path.mkdir()),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path: Path, monkeypatch, suffix: str, write) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"weights{suffix}"
    write(path)
    with pytest.raises(InputError, match="expected") as error:
        load_gslrm(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("bomb_went_off").exists()


def test_published_file_layout_loads_from_disk(tmp_path: Path) -> None:
    model = GSLRM(GSLRMConfig(width=64, head_dim=64, num_layers=1))
    path = tmp_path / "ckpt_0000000000000001.pt"
    torch.save({"model": model.state_dict(), "fwdbwd_pass_step": 1}, path)
    assert load_gslrm(path).config == model.config


@pytest.mark.parametrize(
    "change",
    [
        {"qk_norm": True},
        {"scale_range": (0.001, 0.02)},
        {"num_free_gaussians": 17},
        {"head_dim": 16},
        {"start_from_hull": True, "context_size_px": 64},
    ],
)
def test_own_weights_of_every_option_load_without_being_told(tmp_path: Path, change: dict) -> None:
    config = replace(TINY, **change)
    path = tmp_path / "gslrm.safetensors"
    save_weights(GSLRM(config), path, {"model": to_dict(config)})
    assert load_gslrm(path).config == config


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_own_weights_remember_what_made_them(tmp_path: Path, dtype: torch.dtype) -> None:
    model = GSLRM(TINY)
    path = tmp_path / "gslrm.safetensors"
    save_weights(model, path, {"model": {"skip_empty_patches": True}, "step": 7}, dtype)
    assert read_record(path)["step"] == 7
    loaded = load_gslrm(path)
    assert loaded.config == TINY
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.to(dtype).float())


def test_int8_rows_come_back_to_half_a_step(tmp_path: Path) -> None:
    model = GSLRM(TINY)
    path = tmp_path / "gslrm.safetensors"
    save_weights(model, path, {"model": {"skip_empty_patches": True}}, torch.int8)
    loaded = load_gslrm(path).state_dict()
    for key, value in model.state_dict().items():
        step = value.flatten(1).abs().amax(1) / 127 if value.ndim >= 2 else torch.zeros(())
        error = (loaded[key] - value).abs()
        assert bool(((error.flatten(1).amax(1) if value.ndim >= 2 else error.max()) <= 0.501 * step).all()), key
