"""Small models with random weights, for tests of what stands around them."""

import torch

from mouselift.models.bundled import Models
from mouselift.models.framing_estimator import FramingEstimator, FramingEstimatorConfig
from mouselift.models.generator import Generator, GeneratorConfig
from mouselift.models.gslrm import GSLRM, GSLRMConfig


def random_models(seed: int = 0) -> Models:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Models(
            gslrm=GSLRM(GSLRMConfig(width=64, head_dim=64, num_layers=1)).eval(),
            generator=Generator(GeneratorConfig(width=64, head_dim=64, num_layers=1)).eval(),
            framing=FramingEstimator(FramingEstimatorConfig(width=64, head_dim=64, num_layers=1)).eval(),
        )
