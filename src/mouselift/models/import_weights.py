"""Weights from elsewhere into MouseLift's own files, and what a file of weights is."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from mouselift.config import to_dict
from mouselift.errors import InputError
from mouselift.models.checkpoint_io import (
    LOSS_PREFIX,
    ROW_SCALE,
    check_fit,
    read_record,
    read_state_dict,
    shapes_of,
    write_state_dict,
)
from mouselift.models.generator import Generator, GeneratorConfig
from mouselift.models.gslrm import GSLRM, GSLRMConfig
from mouselift.models.pose_estimator import PoseEstimator, PoseEstimatorConfig
from mouselift.models.presets import GSLRM_PRESETS
from mouselift.models.sizes import TITLES, Kind, Shapes, generator_config, gslrm_config, kind_of, pose_config
from mouselift.tensor_file import read_tensor_file

ModelConfig = GSLRMConfig | GeneratorConfig | PoseEstimatorConfig
UNKNOWN_LICENCE = (
    "not stated. FaceLift's published weights are under the Adobe Research License, non-commercial research only, and "
    "so is what is fine-tuned from them"
)
BLOCK_BYTES = 1 << 22


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """What a file of weights holds.

    Attributes:
        kind: Of the model.
        config: Its sizes and habits.
        shapes: Of its tensors, those of the perceptual loss and of stored scales left out.
        dtypes: In which they are stored.
        num_bytes: Of the file.
        record: What made them, as far as the file says.
    """

    kind: Kind
    config: ModelConfig
    shapes: Shapes
    dtypes: tuple[str, ...]
    num_bytes: int
    record: Mapping[str, Any]

    @property
    def num_parameters(self) -> int:
        """Values in all tensors together."""
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    def describe(self) -> list[str]:
        """Lines for people."""
        preset = next((name for name, config in GSLRM_PRESETS.items() if config == self.config), None)
        sizes = ", ".join(f"{key} {value}" for key, value in to_dict(self.config).items())
        lines = [
            f"model        {TITLES[self.kind]}{'' if preset is None else f', preset {preset}'}",
            f"parameters   {self.num_parameters:,} in {len(self.shapes)} tensors, {', '.join(self.dtypes)}, "
            f"{self.num_bytes / 1e6:,.1f} MB",
            f"sizes        {sizes}",
        ]
        known = {key: value for key, value in self.record.items() if key != "model"}
        lines += [f"{key:12} {_short(value)}" for key, value in known.items()]
        return lines if known else [*lines, "record       none: the file was made elsewhere"]


def import_weights(
    source: Path,
    target: Path,
    *,
    licence: str | None = None,
    head_dim: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> WeightsFile:
    """Convert a checkpoint of tensors into a MouseLift file that remembers where it came from.

    Upstream's wrappings are undone as `read_state_dict` says; then every tensor must fit, none may be missing or left.

    Args:
        source: FaceLift's `ckpt_*.pt`, or any file of one of our models. No code in it is run.
        target: The .safetensors file to write.
        licence: Under which terms the weights are. When not given: what the source's own record says, or for files
            without one a note about FaceLift's.
        head_dim: Width of an attention head; no tensor tells. The source's record or 64 when not given.
        dtype: Of the stored tensors.

    Raises:
        InputError: The source is unreadable, would run code, is of no model of ours, or is not whole; or the target
            is no .safetensors file.
    """
    if target.suffix != ".safetensors":
        raise InputError(f"{target}: expected the name of a .safetensors file to write")
    if target.resolve() == source.resolve():
        raise InputError(f"{target}: expected another file than the one that is read")
    raw = read_tensor_file(source)
    num_lost = _count_loss_tensors(raw)
    state, where = read_state_dict(raw, str(source))
    del raw
    recorded = read_record(source)
    kind, config = _identify(shapes_of(state), recorded.get("model", {}), head_dim, where)
    record = {
        **recorded,
        "kind": kind,
        "model": to_dict(config),
        "imported": {
            "source": source.name,
            "sha256": _sha256(source),
            "bytes": source.stat().st_size,
            "date": datetime.now(UTC).date().isoformat(),
            "mouselift": version("mouselift"),
            "left_out_loss_tensors": num_lost,
        },
        "licence": licence or recorded.get("licence") or UNKNOWN_LICENCE,
    }
    write_state_dict(state, target, record, dtype)
    return show_weights(target)


def show_weights(path: Path) -> WeightsFile:
    """What a file of weights holds; of .safetensors only the header is read.

    Raises:
        InputError: It is unreadable, or of no model of ours, or not whole.
    """
    record = read_record(path)
    if path.suffix == ".safetensors" and path.is_file():
        shapes, dtypes = _header(path)
    else:
        state, _ = read_state_dict(path)
        shapes, dtypes = shapes_of(state), {str(value.dtype).removeprefix("torch.") for value in state.values()}
    kind, config = _identify(shapes, record.get("model", {}), None, str(path))
    return WeightsFile(
        kind=kind,
        config=config,
        shapes=shapes,
        dtypes=tuple(sorted(dtypes)),
        num_bytes=path.stat().st_size,
        record=record,
    )


def _identify(
    shapes: Shapes, recorded: Mapping[str, Any], head_dim: int | None, where: str
) -> tuple[Kind, ModelConfig]:
    """The model that tensors are of, all of them and no others."""
    kind = kind_of(shapes, where)
    with torch.device("meta"):
        model: nn.Module
        if kind == "gslrm":
            config = gslrm_config(shapes, recorded, head_dim, where)
            model = GSLRM(config)
        elif kind == "generator":
            config = generator_config(shapes, recorded, head_dim, where)
            model = Generator(config)
        else:
            config = pose_config(shapes, recorded, head_dim, where)
            model = PoseEstimator(config)
    check_fit(shapes, model, where)
    return kind, config


def _header(path: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    shapes, dtypes = {}, set()
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_slice(key)
                dtypes.add(str(tensor.get_dtype()).lower())
                if not key.endswith(ROW_SCALE):
                    shapes[key] = tuple(tensor.get_shape())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: expected weights (.safetensors), found {error}") from None
    return shapes, dtypes


def _count_loss_tensors(raw: Mapping[str, Any]) -> int:
    inner = raw.get("model")
    keys = inner if isinstance(inner, Mapping) else raw
    return sum(LOSS_PREFIX in str(key) for key in keys)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items() if not isinstance(inner, Mapping))
    return str(value)
