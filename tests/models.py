"""Small models with random weights, for tests of what stands around them."""

import torch

from mouselift.models.bundled import Models
from mouselift.models.generator import Generator, GeneratorConfig
from mouselift.models.gslrm import GSLRM, GSLRMConfig
from mouselift.models.pose_estimator import PoseEstimator, PoseEstimatorConfig


def random_models(seed: int = 0) -> Models:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Models(
            gslrm=GSLRM(GSLRMConfig(width=64, head_dim=64, num_layers=1)).eval(),
            generator=Generator(GeneratorConfig(width=64, head_dim=64, num_layers=1)).eval(),
            pose=PoseEstimator(PoseEstimatorConfig(size_px=32, width=192, image_layers=1, pose_layers=1)).eval(),
        )
