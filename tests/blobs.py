"""A dataset of coloured blobs on the usual rig, and models so small that they learn it in a moment."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from mouselift.body.build import Build
from mouselift.body.skeleton import JOINTS, KEYPOINTS
from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import sample_folder_name, write_dataset, write_sample
from mouselift.geometry import Cameras, Similarity, Views
from mouselift.geometry.rigs import orbit
from mouselift.models.generator import GeneratorConfig
from mouselift.models.gslrm import GSLRMConfig
from mouselift.models.pose_estimator import PoseEstimatorConfig
from mouselift.train.checkpoint import TrainState
from mouselift.train.generator_task import GeneratorTask, GeneratorTaskConfig
from mouselift.train.gslrm_task import GSLRMTask, GSLRMTaskConfig
from mouselift.train.loop import train
from mouselift.train.pose_task import PoseTask, PoseTaskConfig
from mouselift.train.run_config import RunConfig
from mouselift.train.task import Task

SIZE_PX = 32


def write_blobs(root: Path) -> Path:
    """Six samples on eight cameras around, and two free views of each; four of them to train on."""
    generator = torch.Generator().manual_seed(0)
    names = [sample_folder_name(i) for i in range(6)]
    ring = orbit([45.0 * i for i in range(8)], 20.0, fov_deg=30, size_px=SIZE_PX, names=[f"ring_{i}" for i in range(8)])
    free = orbit([10.0, 200.0], [40.0, 80.0], fov_deg=30, size_px=SIZE_PX, names=["framed_0", "framed_1"])
    cameras = Cameras.cat([ring, free])
    masks = torch.zeros(10, 1, SIZE_PX, SIZE_PX)
    masks[..., 10:22, 10:22] = 1
    for index, name in enumerate(names):
        colour = torch.rand(3, generator=generator)[None, :, None, None].expand(10, 3, SIZE_PX, SIZE_PX)
        write_sample(
            root / name,
            Views(images=colour, masks=masks, cameras=cameras),
            sample_id=name,
            frame_index=index,
            scene_from_world=Similarity(scale=torch.tensor(0.01), rotation=torch.eye(3), translation=torch.zeros(3)),
            extra={
                "body_pose": {"axis_angle_rad": [[0.02 * index] * 3] * len(JOINTS), "build": asdict(Build())},
                "keypoints_scene": [[0.1, 0.0, 0.0]] * len(KEYPOINTS),
            },
        )
    write_dataset(root, {"train": names[:4], "val": names[4:]}, {})
    return root


def generator_task() -> GeneratorTask:
    torch.manual_seed(0)
    model = GeneratorConfig(patch_size_px=8, width=64, head_dim=32, num_layers=1)
    return GeneratorTask(model, GeneratorTaskConfig(), bf16=False)


def gslrm_task(num_layers: int = 1) -> GSLRMTask:
    torch.manual_seed(0)
    model = GSLRMConfig(width=64, head_dim=32, num_layers=num_layers, skip_empty_patches=True)
    return GSLRMTask(model, GSLRMTaskConfig(), bf16=False)


def pose_task() -> PoseTask:
    torch.manual_seed(0)
    model = PoseEstimatorConfig(size_px=32, width=48, head_dim=24, image_layers=1, pose_layers=1)
    return PoseTask(model, PoseTaskConfig(), bf16=False)


TASKS: dict[str, Callable[[], Task]] = {"generator": generator_task, "gslrm": gslrm_task, "pose": pose_task}


def run(task: Task, dataset: Path, folder: Path, config: RunConfig) -> TrainState:
    return train(task, config, MouseDataset(dataset, "train"), MouseDataset(dataset, "val"), folder, {"kind": "test"})
