"""From a configuration to a training run."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

import mouselift
from mouselift.atomic import atomic_path
from mouselift.config import to_dict, to_yaml
from mouselift.data.dataset import DataRoot, MouseDataset
from mouselift.errors import InputError
from mouselift.models.checkpoint_io import load_into
from mouselift.models.generator import GeneratorConfig
from mouselift.models.gslrm import GSLRMConfig
from mouselift.models.pose_estimator import PoseEstimatorConfig
from mouselift.train.checkpoint import TrainState
from mouselift.train.cost import Workload
from mouselift.train.distributed import is_first_process, num_processes
from mouselift.train.generator_task import GeneratorTask, GeneratorTaskConfig
from mouselift.train.gslrm_task import GSLRMTask, GSLRMTaskConfig
from mouselift.train.loop import train
from mouselift.train.memory import fitted
from mouselift.train.mvunet_task import MVUNetConfig, MVUNetTask, MVUNetTaskConfig
from mouselift.train.pose_task import PoseTask, PoseTaskConfig
from mouselift.train.run_config import RunConfig
from mouselift.train.task import Task

LIKE_RECONSTRUCTION = 7  # context views: a photograph and the six rig views around it
STATISTICS_SAMPLES = 400  # from which the pose codes are scaled

ModelName = Literal["gslrm", "generator", "pose", "mvunet"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The dataset."""

    root: str = "datasets/synthetic"
    roots: tuple[DataRoot, ...] = ()
    """Several datasets with their shares, instead of `root`: [{path: A, share: 3}, {path: B}]."""
    limit: int | None = None
    """Use only the first samples of each split."""
    cache_gb: float = 16.0
    """Memory for samples that were read once, in each process; the rest is read from the disk every time."""


@dataclass(frozen=True, kw_only=True)
class GSLRMTraining:
    """GS-LRM: sizes, what it learns from, how long."""

    model: GSLRMConfig = field(default_factory=GSLRMConfig)
    task: GSLRMTaskConfig = field(default_factory=GSLRMTaskConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class GeneratorTraining:
    """The multi-view generator: sizes, what it learns from, how long."""

    model: GeneratorConfig = field(default_factory=GeneratorConfig)
    task: GeneratorTaskConfig = field(default_factory=GeneratorTaskConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class PoseTraining:
    """The pose estimator: sizes, what it learns from, how long."""

    model: PoseEstimatorConfig = field(default_factory=PoseEstimatorConfig)
    task: PoseTaskConfig = field(default_factory=PoseTaskConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class MVUNetTraining:
    """FaceLift's multi-view diffusion: where it starts, what it learns from, how long."""

    model: MVUNetConfig = field(default_factory=MVUNetConfig)
    task: MVUNetTaskConfig = field(default_factory=MVUNetTaskConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that `mouselift train` reads; a run uses `data` and the section of its model."""

    data: DataConfig = field(default_factory=DataConfig)
    gslrm: GSLRMTraining = field(default_factory=GSLRMTraining)
    generator: GeneratorTraining = field(default_factory=GeneratorTraining)
    pose: PoseTraining = field(default_factory=PoseTraining)
    mvunet: MVUNetTraining = field(default_factory=MVUNetTraining)


def build_task(name: ModelName, config: TrainConfig) -> Task:
    """The task of one model; its weights are drawn from the run's seed, or read from a file."""
    section = getattr(config, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(section.run.seed)
        if name == "gslrm":
            task = GSLRMTask(config.gslrm.model, config.gslrm.task, bf16=section.run.bf16)
        elif name == "generator":
            task = GeneratorTask(config.generator.model, config.generator.task, bf16=section.run.bf16)
        elif name == "mvunet":
            task = MVUNetTask(config.mvunet.model, config.mvunet.task, bf16=section.run.bf16)
        else:
            task = PoseTask(config.pose.model, config.pose.task, bf16=section.run.bf16)
    if section.run.initial_weights is not None:
        load_into(task.model, section.run.initial_weights)
    return task


def fit_to_memory(name: ModelName, config: TrainConfig, dataset: MouseDataset) -> TrainConfig:
    """The configuration with micro-batches that fit `run.memory_gb`, where that is set.

    Raises:
        InputError: The model is not GS-LRM, the only one whose costs are known, or does not fit.
    """
    section = getattr(config, name)
    if section.run.memory_gb == 0:
        return config
    if name != "gslrm":
        raise InputError(f"{name}.run.memory_gb: expected 0 for every model but gslrm, found {section.run.memory_gb:g}")
    model, task = config.gslrm.model, config.gslrm.task
    size_px = task.size_px or dataset[0].views.cameras.width
    work = Workload(
        num_views=max(task.max_context, LIKE_RECONSTRUCTION if task.rig_context_share > 0 else 0),
        size_px=model.context_size_px or size_px,
        num_targets=task.num_targets,
        target_px=size_px,
        perceptual=task.perceptual_weight > 0,
    )
    return replace(config, gslrm=replace(config.gslrm, run=fitted(section.run, model, work, num_processes())))


def run_training(name: ModelName, config: TrainConfig, folder: Path) -> TrainState:
    """Train one model, in `folder`; goes on from what lies there."""
    root = config.data.roots or Path(config.data.root)
    data = MouseDataset(root, "train", config.data.limit, cache_gb=config.data.cache_gb)
    config = fit_to_memory(name, config, data)
    section = getattr(config, name)
    held_out = MouseDataset(root, "val", config.data.limit, cache_gb=config.data.cache_gb)
    if is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "config.yaml") as partial:
            partial.write_text(to_yaml(config))
    record: dict[str, Any] = {
        "kind": name,
        "mouselift": mouselift.__version__,
        "model": to_dict(section.model),
        "training": to_dict(section),
        "data": to_dict(config.data),
    }
    task = build_task(name, config)
    if isinstance(task, PoseTask) and section.run.initial_weights is None:
        task.scale_codes([data[i] for i in range(min(STATISTICS_SAMPLES, len(data)))])
    state = train(task, section.run, data, held_out, folder, record)
    if isinstance(task, MVUNetTask) and state.step == section.run.steps and is_first_process():
        task.export(folder / "final.safetensors", folder / "pipeckpts")
    return state
