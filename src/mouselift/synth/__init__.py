"""Synthetic mice: articulated bodies with fur, seen by cameras that are known exactly."""

from mouselift.body.mesh import Body, procedural_mouse
from mouselift.synth.coat import COATS
from mouselift.synth.fur import FurConfig
from mouselift.synth.pose import Pose, PosePrior
from mouselift.synth.scene import SynthConfig, SynthSample, synthesize_animal, synthesize_sample

__all__ = [
    "COATS",
    "Body",
    "FurConfig",
    "Pose",
    "PosePrior",
    "SynthConfig",
    "SynthSample",
    "procedural_mouse",
    "synthesize_animal",
    "synthesize_sample",
]
