"""Which model tensors belong to, and how large it is, from their names and shapes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from mouselift.errors import InputError
from mouselift.geometry.sh import sh_degree
from mouselift.models.generator import TARGET_CHANNELS, GeneratorConfig
from mouselift.models.gslrm import HULL_CHANNELS, RAY_CHANNELS, GSLRMConfig
from mouselift.models.pose_estimator import REDUCTION, PoseEstimatorConfig

Kind = Literal["gslrm", "generator", "pose"]
Shapes = Mapping[str, Sequence[int]]
MARKS: dict[Kind, str] = {  # a tensor that only this model has
    "gslrm": "gaussian_position_embeddings",
    "generator": "target_embedder.1.weight",
    "pose": "place_embeddings",
}
TITLES: dict[Kind, str] = {"gslrm": "GS-LRM", "generator": "generator", "pose": "pose estimator"}
DEFAULT_HEAD_DIM = 64
NAMES_SHOWN = 8


def kind_of(shapes: Shapes, where: str) -> Kind:
    """The model that tensors belong to.

    Raises:
        InputError: None of ours.
    """
    for kind, mark in MARKS.items():
        if mark in shapes:
            return kind
    raise InputError(f"{where}: expected the weights of {', '.join(TITLES.values())}, found {some(sorted(shapes))}")


def gslrm_config(shapes: Shapes, recorded: Mapping[str, Any], head_dim: int | None, where: str) -> GSLRMConfig:
    """Sizes of a GS-LRM.

    Args:
        shapes: Of its tensors.
        recorded: The configuration that our own weights carry; empty for published ones.
        head_dim: Width of an attention head, which no tensor tells: the recorded one or 64 when not given.
        where: Names the tensors' source in messages.

    Raises:
        InputError: The tensors are not those of a GS-LRM.
    """
    width, patch_columns = _matrix(shapes, "patch_embedder.1.weight", where)
    num_free, _ = _matrix(shapes, "gaussian_position_embeddings", where)
    channels, _ = _matrix(shapes, "gaussian_upsampler.linear.weight", where)
    habits = _chosen(recorded, ("skip_empty_patches", "start_from_hull", "context_size_px"))
    if recorded.get("scale_range") is not None:
        habits["scale_range"] = tuple(recorded["scale_range"])  # JSON has no tuples
    inputs = RAY_CHANNELS + (HULL_CHANNELS if habits.get("start_from_hull") else 0)
    with _refused(where, "gslrm"):
        return GSLRMConfig(
            patch_size_px=_patch_size(patch_columns, inputs),
            width=width,
            head_dim=_head_dim(recorded, head_dim),
            num_layers=_count_layers(shapes),
            num_free_gaussians=num_free,
            sh_degree=sh_degree((channels - 11) // 3),
            qk_norm="transformer_layers.0.attn.q_norm.weight" in shapes,
            **habits,
        )


def generator_config(shapes: Shapes, recorded: Mapping[str, Any], head_dim: int | None, where: str) -> GeneratorConfig:
    """Sizes of a multi-view generator; arguments and errors as `gslrm_config`."""
    width, patch_columns = _matrix(shapes, "target_embedder.1.weight", where)
    with _refused(where, "generator"):
        return GeneratorConfig(
            patch_size_px=_patch_size(patch_columns, TARGET_CHANNELS),
            width=width,
            head_dim=_head_dim(recorded, head_dim),
            num_layers=_count_layers(shapes),
            **_chosen(recorded, ("relative_rays", "attention", "condition_dropout")),
        )


def pose_config(shapes: Shapes, recorded: Mapping[str, Any], head_dim: int | None, where: str) -> PoseEstimatorConfig:
    """Sizes of a pose estimator; arguments and errors as `gslrm_config`."""
    num_features, width = _matrix(shapes, "place_embeddings", where)
    with _refused(where, "pose"):
        return PoseEstimatorConfig(
            size_px=round(num_features**0.5) * REDUCTION,
            width=width,
            head_dim=_head_dim(recorded, head_dim),
            image_layers=_count_layers(shapes, "image_layers"),
            pose_layers=_count_layers(shapes, "pose_layers"),
        )


def some(names: Sequence[str]) -> str:
    """The first few names."""
    shown = ", ".join(names[:NAMES_SHOWN]) or "no tensors"
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


def _chosen(recorded: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """How our own weights were trained, which no tensor tells; published weights have no record."""
    return {name: recorded[name] for name in names if name in recorded}


def _head_dim(recorded: Mapping[str, Any], given: int | None) -> int:
    return given if given is not None else int(recorded.get("head_dim", DEFAULT_HEAD_DIM))


@contextmanager
def _refused(where: str, kind: Kind) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: expected the weights of a {TITLES[kind]}; {error}") from None


def _matrix(shapes: Shapes, key: str, where: str) -> tuple[int, int]:
    if key not in shapes or len(shapes[key]) != 2:
        raise InputError(f"{where}: expected a matrix `{key}`, found {some(sorted(shapes))}")
    rows, columns = shapes[key]
    return rows, columns


def _patch_size(columns: int, channels: int) -> int:
    patch = round((columns / channels) ** 0.5)
    if patch * patch * channels != columns:
        raise ValueError(f"{columns} patch columns are not {channels} channels of a square patch")
    return patch


def _count_layers(shapes: Shapes, name: str = "transformer_layers") -> int:
    return len({key.split(".")[1] for key in shapes if key.startswith(f"{name}.")})
