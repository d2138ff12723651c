"""Weights to models: strict loading of the published key names, every size inferred from the tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.geometry.sh import sh_degree
from mouselift.models.generator import TARGET_CHANNELS, Generator, GeneratorConfig
from mouselift.models.gslrm import GSLRM, HULL_CHANNELS, RAY_CHANNELS, GSLRMConfig
from mouselift.models.pose_estimator import REDUCTION, PoseEstimator, PoseEstimatorConfig

StateDict = Mapping[str, Any]  # tensors; upstream nests them under "model"
ROW_SCALE = ".row_scale"  # after the name of an int8 tensor: the scales of its rows
LOSS_PREFIX = "loss_calculator."  # upstream stores 32 tensors of its perceptual loss with the model
MODULE_PREFIX = "module."  # of a model saved inside DistributedDataParallel
RECORD_KEY = "mouselift"
NAMES_SHOWN = 8
Model = TypeVar("Model", bound=nn.Module)


def load_gslrm(source: str | Path | StateDict, head_dim: int = 64) -> GSLRM:
    """Load a GS-LRM: MouseLift's own weights or FaceLift's published `ckpt_*.pt`.

    Args:
        source: A .safetensors or .pt file, or a state dict.
        head_dim: Width of an attention head, the one size that tensors do not tell.

    Returns:
        The model in float32 on the CPU, in evaluation mode.

    Raises:
        InputError: The file is unreadable, or a tensor is missing, unexpected or of the wrong shape.
    """
    state, where = read_state_dict(source)
    width, patch_columns = _shape(state, "patch_embedder.1.weight", where)
    num_free, _ = _shape(state, "gaussian_position_embeddings", where)
    channels, _ = _shape(state, "gaussian_upsampler.linear.weight", where)
    habits = _habits(source, ("skip_empty_patches", "start_from_hull", "context_size_px"))
    inputs = RAY_CHANNELS + (HULL_CHANNELS if habits.get("start_from_hull") else 0)
    try:
        config = GSLRMConfig(
            patch_size_px=_patch_size(patch_columns, inputs),
            width=width,
            head_dim=head_dim,
            num_layers=_count_layers(state),
            num_free_gaussians=num_free,
            sh_degree=sh_degree((channels - 11) // 3),
            **habits,
        )
    except ValueError as error:
        raise InputError(f"{where}: expected the weights of a GS-LRM; {error}") from None
    return _load_strictly(GSLRM(config), state, where)


def load_generator(source: str | Path | StateDict, head_dim: int = 64) -> Generator:
    """Load a multi-view generator; arguments and errors as `load_gslrm`."""
    state, where = read_state_dict(source)
    width, patch_columns = _shape(state, "target_embedder.1.weight", where)
    try:
        config = GeneratorConfig(
            patch_size_px=_patch_size(patch_columns, TARGET_CHANNELS),
            width=width,
            head_dim=head_dim,
            num_layers=_count_layers(state),
            **_habits(source, ("relative_rays", "attention")),
        )
    except ValueError as error:
        raise InputError(f"{where}: expected the weights of a generator; {error}") from None
    return _load_strictly(Generator(config), state, where)


def load_pose_estimator(source: str | Path | StateDict, head_dim: int = 64) -> PoseEstimator:
    """Load a pose estimator; arguments and errors as `load_gslrm`."""
    state, where = read_state_dict(source)
    num_features, width = _shape(state, "place_embeddings", where)
    try:
        config = PoseEstimatorConfig(
            size_px=round(num_features**0.5) * REDUCTION,
            width=width,
            head_dim=head_dim,
            image_layers=_count_layers(state, "image_layers"),
            pose_layers=_count_layers(state, "pose_layers"),
        )
    except ValueError as error:
        raise InputError(f"{where}: expected the weights of a pose estimator; {error}") from None
    return _load_strictly(PoseEstimator(config), state, where)


def load_into(model: nn.Module, source: str | Path | StateDict, where: str | None = None) -> None:
    """Fill a model that exists with weights of exactly its shape; errors as `load_gslrm`, and name `where` if given."""
    state, source_name = read_state_dict(source)
    _fill_strictly(model, state, where or source_name)


def read_state_dict(source: str | Path | StateDict) -> tuple[dict[str, Tensor], str]:
    """Read tensors without running code, undo upstream's wrappings, and name where they came from."""
    if isinstance(source, Mapping):
        state, where = dict(source), "the state dict"
    else:
        state, where = _read_file(Path(source)), str(source)
    inner = state.get("model")
    if isinstance(inner, Mapping):
        state = dict(inner)
    state = {key.removeprefix(MODULE_PREFIX): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if not key.startswith(LOSS_PREFIX)}
    stray = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if stray:
        raise InputError(f"{where}: expected tensors only, found other values under {_some(stray)}")
    return {key: value.float() for key, value in _without_row_scales(state).items()}, where


def save_weights(model: nn.Module, path: Path, record: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> None:
    """Write a model as safetensors with a record of what made it; atomic.

    Args:
        model: Any of the models here.
        path: The .safetensors file.
        record: JSON values; readable later with `read_record`.
        dtype: Of the stored tensors. int8 stores every row of a matrix or kernel with a scale of its own, and all the
            rest in float32.
    """
    state = {key: value.detach().cpu().float() for key, value in model.state_dict().items()}
    if dtype == torch.int8:
        tensors = _with_row_scales(state)
    else:
        tensors = {key: value.to(dtype).contiguous() for key, value in state.items()}
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={RECORD_KEY: json.dumps(record)})


def read_record(path: Path) -> dict[str, Any]:
    """What `save_weights` stored beside the tensors; empty for files made elsewhere."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get(RECORD_KEY, "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise InputError(f"{path}: expected weights (.safetensors), found {error}") from None


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"expected a weights file, found none at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{path}: expected weights (.safetensors, or .pt of tensors only), found {reason}") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    return dict(content)


def _with_row_scales(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8, largest entry of each row 127, and the scales of the rows under their own keys."""
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if value.ndim < 2:
            tensors[key] = value.contiguous()
            continue
        scale = value.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        rows = (value.flatten(1) / scale[:, None]).round().to(torch.int8)
        tensors[key], tensors[key + ROW_SCALE] = rows.reshape(value.shape).contiguous(), scale.contiguous()
    return tensors


def _without_row_scales(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse, up to rounding; states without scales stay as they are."""
    scaled = {key for key in state if key + ROW_SCALE in state and state[key].dtype == torch.int8}
    values: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in scaled:
            values[key] = (value.float().flatten(1) * state[key + ROW_SCALE].float()[:, None]).reshape(value.shape)
        elif key.removesuffix(ROW_SCALE) not in scaled:
            values[key] = value
    return values


def _habits(source: str | Path | StateDict, names: tuple[str, ...]) -> dict[str, Any]:
    """How some of our own weights were trained, which no tensor tells; published weights have no habits."""
    model = {} if isinstance(source, Mapping) else read_record(Path(source)).get("model", {})
    return {key: model[key] for key in names if key in model}


def _shape(state: StateDict, key: str, where: str) -> tuple[int, int]:
    if key not in state or state[key].ndim != 2:
        raise InputError(f"{where}: expected a matrix `{key}`, found {_some(sorted(state)) or 'no tensors'}")
    rows, columns = state[key].shape
    return rows, columns


def _patch_size(columns: int, channels: int) -> int:
    patch = round((columns / channels) ** 0.5)
    if patch * patch * channels != columns:
        raise ValueError(f"{columns} patch columns are not {channels} channels of a square patch")
    return patch


def _count_layers(state: StateDict, name: str = "transformer_layers") -> int:
    return len({key.split(".")[1] for key in state if key.startswith(f"{name}.")})


def _load_strictly(model: Model, state: StateDict, where: str) -> Model:
    _fill_strictly(model, state, where)
    return model.eval()


def _fill_strictly(model: nn.Module, state: StateDict, where: str) -> None:
    expected = {key: value.shape for key, value in model.state_dict().items()}
    missing = sorted(set(expected) - set(state))
    unexpected = sorted(set(state) - set(expected))
    wrong = [
        f"{k} {tuple(state[k].shape)}, expected {tuple(expected[k])}"
        for k in expected
        if k in state and state[k].shape != expected[k]
    ]
    problems = [
        f"{what} {_some(keys)}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong))
        if keys
    ]
    if problems:
        raise InputError(f"{where}: the tensors do not fit a {type(model).__name__}: {'; '.join(problems)}")
    model.load_state_dict(state, strict=True)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
