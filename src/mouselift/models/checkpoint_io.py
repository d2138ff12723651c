"""Weights to models: strict loading of the published key names, every size inferred from the tensors."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.models.generator import Generator
from mouselift.models.gslrm import GSLRM
from mouselift.models.pose_estimator import PoseEstimator
from mouselift.models.sizes import Shapes, generator_config, gslrm_config, pose_config, some
from mouselift.tensor_file import read_tensor_file

StateDict = Mapping[str, Any]  # tensors; upstream nests them under "model"
ROW_SCALE = ".row_scale"  # after the name of an int8 tensor: the scales of its rows
LOSS_PREFIX = "loss_calculator."  # upstream stores 32 tensors of its perceptual loss with the model
MODULE_PREFIX = "module."  # of a model saved inside DistributedDataParallel
RECORD_KEY = "mouselift"
Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config")


def load_gslrm(source: str | Path | StateDict, head_dim: int | None = None) -> GSLRM:
    """Load a GS-LRM: MouseLift's own weights or FaceLift's published `ckpt_*.pt`.

    Args:
        source: A .safetensors or .pt file, or a state dict.
        head_dim: Width of an attention head, the one size that tensors do not tell: what the file's record says, or 64,
            when not given.

    Returns:
        The model in float32 on the CPU, in evaluation mode.

    Raises:
        InputError: The file is unreadable, or a tensor is missing, unexpected or of the wrong shape.
    """
    state, where = read_state_dict(source)
    return _load_strictly(GSLRM, gslrm_config(shapes_of(state), _recorded(source), head_dim, where), state, where)


def load_generator(source: str | Path | StateDict, head_dim: int | None = None) -> Generator:
    """Load a multi-view generator; arguments and errors as `load_gslrm`."""
    state, where = read_state_dict(source)
    config = generator_config(shapes_of(state), _recorded(source), head_dim, where)
    return _load_strictly(Generator, config, state, where)


def load_pose_estimator(source: str | Path | StateDict, head_dim: int | None = None) -> PoseEstimator:
    """Load a pose estimator; arguments and errors as `load_gslrm`."""
    state, where = read_state_dict(source)
    config = pose_config(shapes_of(state), _recorded(source), head_dim, where)
    return _load_strictly(PoseEstimator, config, state, where)


def load_into(model: nn.Module, source: str | Path | StateDict, where: str | None = None) -> None:
    """Fill a model that exists with weights of exactly its shape; errors as `load_gslrm`, and name `where` if given."""
    state, source_name = read_state_dict(source)
    check_fit(shapes_of(state), model, where or source_name)
    model.load_state_dict(state, strict=True)


def read_state_dict(source: str | Path | StateDict, where: str = "the state dict") -> tuple[dict[str, Tensor], str]:
    """Read tensors without running code, undo upstream's wrappings, and name where they came from.

    Args:
        source: A .safetensors or .pt file, or what was read of one.
        where: Names what was read of a file in messages.

    Returns:
        float32 tensors without those of upstream's perceptual loss, and the name of the source.

    Raises:
        InputError: The file is unreadable, would run code, or holds something else than tensors.
    """
    if isinstance(source, Mapping):
        state = dict(source)
    else:
        state, where = read_tensor_file(Path(source)), str(source)
    inner = state.get("model")
    if isinstance(inner, Mapping):
        state = dict(inner)
    state = {key.removeprefix(MODULE_PREFIX): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if not key.startswith(LOSS_PREFIX)}
    stray = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if stray:
        raise InputError(f"{where}: expected tensors only, found other values under {some(stray)}")
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
    write_state_dict(state, path, record, dtype)


def write_state_dict(
    state: Mapping[str, Tensor], path: Path, record: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """As `save_weights`, from float32 tensors on the CPU."""
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


def shapes_of(state: StateDict) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    return {key: tuple(value.shape) for key, value in state.items()}


def _recorded(source: str | Path | StateDict) -> Mapping[str, Any]:
    """The configuration that a file's record holds; empty for files made elsewhere."""
    return {} if isinstance(source, Mapping) else read_record(Path(source)).get("model", {})


def _load_strictly(kind: Callable[[Config], Model], config: Config, state: StateDict, where: str) -> Model:
    with torch.device("meta"):  # no random weights are drawn that would only be replaced
        model = kind(config)
    check_fit(shapes_of(state), model, where)
    model.to_empty(device="cpu").load_state_dict(state, strict=True)
    return model.eval()


def check_fit(shapes: Shapes, model: nn.Module, where: str) -> None:
    """Refuse tensors that are not exactly those of a model, which may be on the meta device.

    Raises:
        InputError: Names those that are missing, unexpected or of the wrong shape.
    """
    expected = shapes_of(model.state_dict())
    missing = sorted(set(expected) - set(shapes))
    unexpected = sorted(set(shapes) - set(expected))
    wrong = [
        f"{key} {tuple(shapes[key])}, expected {expected[key]}"
        for key in expected
        if key in shapes and tuple(shapes[key]) != expected[key]
    ]
    problems = [
        f"{what} {some(keys)}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong))
        if keys
    ]
    if problems:
        raise InputError(f"{where}: the tensors do not fit a {type(model).__name__}: {'; '.join(problems)}")
