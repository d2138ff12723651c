"""Weights from elsewhere: imported strictly, with a record of where they came from, and shown."""

import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from samples import golden_views
from torch import nn

from mouselift.cli import main
from mouselift.config import load_config, to_dict
from mouselift.errors import InputError
from mouselift.geometry import Views
from mouselift.geometry.rigs import facelift_rig
from mouselift.models.bundled import weights_path
from mouselift.models.checkpoint_io import load_gslrm, read_record, save_weights
from mouselift.models.generator import Generator, GeneratorConfig
from mouselift.models.gslrm import GSLRM, GSLRMConfig
from mouselift.models.import_weights import import_weights, show_weights
from mouselift.models.presets import GSLRM_PRESETS
from mouselift.perceptual import VGG19Distance, load_perceptual
from mouselift.perceptual.load import FACELIFT_PREFIX
from mouselift.train.run import TrainConfig

ROOT = Path(__file__).parents[3]
GOLDEN = Path(os.environ.get("MOUSELIFT_GOLDEN", ROOT.parent / "shared" / "golden"))
TINY = GSLRMConfig(width=64, head_dim=64, num_layers=1)


def published(model: nn.Module, perceptual: nn.Module, path: Path, prefix: str = "") -> Path:
    """A checkpoint as upstream's trainer writes it: the perceptual loss's tensors among the model's."""
    state = {f"{prefix}{key}": value for key, value in model.state_dict().items()}
    state |= {f"{prefix}{FACELIFT_PREFIX}{key}": value for key, value in perceptual.state_dict().items()}
    torch.save({"model": state, "fwdbwd_pass_step": 7, "param_update_step": 7, "lr_scheduler": {"last_epoch": 7}}, path)
    return path


@pytest.fixture(scope="module")
def vgg19() -> VGG19Distance:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VGG19Distance()


@pytest.mark.parametrize(("name", "head_dim"), [("gslrm_tiny", 16), ("gslrm_sh1", 32)])
def test_imported_weights_reproduce_the_published_code(name: str, head_dim: int, tmp_path: Path) -> None:
    path = GOLDEN / f"{name}.pt"
    if not path.is_file():
        pytest.skip(f"golden vectors not found at {path}; set MOUSELIFT_GOLDEN")
    vectors = torch.load(path, weights_only=True)
    torch.save({"model": vectors["state_dict"]}, tmp_path / "ckpt_0000000000000001.pt")
    target = tmp_path / "gslrm.safetensors"
    import_weights(tmp_path / "ckpt_0000000000000001.pt", target, head_dim=head_dim)
    with torch.no_grad():
        raw = load_gslrm(target).raw(golden_views(vectors))
    for ours, theirs in (
        (raw.means, "xyz"),
        (raw.sh, "features"),
        (raw.log_scales, "scaling"),
        (raw.quats, "rotation"),
        (raw.opacity_logits[..., None], "opacity"),
    ):
        torch.testing.assert_close(ours, vectors["out"][theirs], atol=1e-5, rtol=1e-5)


def test_published_file_has_183_tensors(vgg19: VGG19Distance) -> None:
    with torch.device("meta"):
        keys = GSLRM(GSLRM_PRESETS["facelift"]).state_dict()
    assert len(keys) + len(vgg19.state_dict()) == 183
    values = sum(v.numel() for v in keys.values()) + sum(v.numel() for v in vgg19.state_dict().values())
    assert values == 323_590_208


@pytest.mark.parametrize("prefix", ["", "module."])
def test_import_keeps_the_model_and_says_where_it_came_from(prefix: str, vgg19: VGG19Distance, tmp_path: Path) -> None:
    model = GSLRM(TINY)
    source = published(model, vgg19, tmp_path / "ckpt_0000000000021125.pt", prefix)
    target = tmp_path / "facelift.safetensors"
    made = import_weights(source, target, licence="Adobe Research License")
    assert (made.kind, made.config) == ("gslrm", TINY)
    assert made.num_parameters == sum(p.numel() for p in model.parameters())
    loaded = load_gslrm(target).state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded[key], value)
    record = read_record(target)
    assert record["licence"] == "Adobe Research License"
    imported = record["imported"]
    assert imported["source"] == "ckpt_0000000000021125.pt"
    assert imported["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert imported["left_out_loss_tensors"] == 32
    assert load_perceptual(source)[0] == "vgg19"  # what is left out stays available to training


def test_imported_twice_stays_the_same(tmp_path: Path) -> None:
    model = GSLRM(replace(TINY, skip_empty_patches=True, head_dim=32))
    save_weights(model, tmp_path / "a.safetensors", {"model": to_dict(model.config), "step": 3, "licence": "CC0"})
    import_weights(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert load_gslrm(tmp_path / "b.safetensors").config == model.config
    assert read_record(tmp_path / "b.safetensors")["licence"] == "CC0"
    assert read_record(tmp_path / "b.safetensors")["step"] == 3


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path("bomb_went_off").touch, ())


def _partial(path: Path) -> None:
    state = dict(GSLRM(TINY).state_dict())
    del state["transformer_layers.0.mlp.mlp.2.weight"]
    torch.save({"model": state}, path)


def _cut_off(path: Path) -> None:
    torch.save({"model": GSLRM(TINY).state_dict()}, path)
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(pickle.dumps({"model": Bomb()})), "would run code"),
        (lambda path: torch.save({"model": {"weight": torch.zeros(2)}, "extra": Bomb()}, path), "would run code"),
        (_partial, "missing transformer_layers.0.mlp.mlp.2.weight"),
        (_cut_off, "expected weights"),
        (lambda path: torch.save({"layer.weight": torch.zeros(2)}, path), "expected the weights of GS-LRM"),
        (lambda path: None, "found none"),
    ],
)
def test_unusable_checkpoints_are_refused_in_one_line(write, message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "ckpt_0000000000000001.pt"
    write(source)
    with pytest.raises(InputError, match=message) as error:
        import_weights(source, tmp_path / "out.safetensors")
    assert str(source) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.safetensors").exists()
    assert not (tmp_path / "bomb_went_off").exists()


def test_a_target_that_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected the name of a \.safetensors file"):
        import_weights(tmp_path / "a.pt", tmp_path / "b.pt")


def test_commands_import_and_show(tmp_path: Path, monkeypatch, capsys) -> None:
    torch.save(GSLRM(TINY).state_dict(), tmp_path / "ckpt.pt")
    out = tmp_path / "gslrm.safetensors"
    monkeypatch.setattr("sys.argv", ["mouselift", "weights", "import", str(tmp_path / "ckpt.pt"), "-o", str(out)])
    main()
    assert "GS-LRM" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["mouselift", "weights", "show", str(out)])
    main()
    shown = capsys.readouterr().out
    assert "width 64" in shown
    assert "sha256" in shown


def test_shows_what_ships_and_what_has_no_record(tmp_path: Path) -> None:
    shipped = show_weights(weights_path("gslrm"))
    assert shipped.config == GSLRM_PRESETS["small"]
    assert "preset small" in shipped.describe()[0]
    assert show_weights(weights_path("generator")).kind == "generator"
    assert show_weights(weights_path("pose")).kind == "pose"
    torch.save(Generator(GeneratorConfig(width=64, num_layers=1)).state_dict(), tmp_path / "generator.pt")
    assert show_weights(tmp_path / "generator.pt").describe()[-1].startswith("record       none")


@pytest.mark.parametrize(
    ("name", "parameters"), [("small", 6_759_168), ("base", 86_343_936), ("facelift", 303_565_824)]
)
def test_presets_have_the_documented_sizes_and_a_configuration(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = GSLRM(GSLRM_PRESETS[name])
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert f"{parameters:,}" in (ROOT / "docs" / "weights.md").read_text()
    configured = load_config(TrainConfig, ROOT / "configs" / "sizes" / f"{name}.yaml")
    assert configured.gslrm.model == GSLRM_PRESETS[name]


@pytest.mark.slow
def test_full_size_checkpoint_imports_runs_and_round_trips(vgg19: VGG19Distance, tmp_path: Path) -> None:
    """1.3 GB on disk twice and 4 GB of memory."""
    with torch.device("meta"):
        model = GSLRM(GSLRM_PRESETS["facelift"])
    generator = torch.Generator().manual_seed(0)
    state = {
        key: torch.ones(value.shape) if value.ndim == 1 else 0.02 * torch.randn(value.shape, generator=generator)
        for key, value in model.state_dict().items()
    }
    source, target = tmp_path / "ckpt_0000000000021125.pt", tmp_path / "facelift.safetensors"
    perceptual = {f"{FACELIFT_PREFIX}{key}": value for key, value in vgg19.state_dict().items()}
    torch.save({"model": {**state, **perceptual}}, source)
    assert len(state) + len(perceptual) == 183
    made = import_weights(source, target)
    assert made.num_parameters == 303_565_824
    loaded = load_gslrm(target)
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, state[key]), key
    cameras = facelift_rig(size_px=32).reshape(1, 6)
    views = Views(images=torch.rand(1, 6, 3, 32, 32), masks=torch.ones(1, 6, 1, 32, 32), cameras=cameras)
    with torch.no_grad():
        exact, quick = loaded(views), loaded(views, bf16=True)
    assert len(exact) == 2 + 6 * 32 * 32
    assert bool(exact.means.isfinite().all())
    assert float((exact.means - quick.means)[:, 2:].norm(dim=-1).max()) < 0.1
