"""The weights that ship in the package."""

import functools
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mouselift.errors import InputError
from mouselift.models.checkpoint_io import load_gslrm, load_pose_estimator
from mouselift.models.generator import Generator
from mouselift.models.gslrm import GSLRM
from mouselift.models.multiview import load_multiview
from mouselift.models.mvunet.pipeline import LatentGenerator
from mouselift.models.pose_estimator import PoseEstimator

SIZE_PX = 128  # of the views that the shipped weights read and make
CONTEXT_BACKGROUND = (1.0, 1.0, 1.0)  # on which GS-LRM sees them
WEIGHT_FILES = ("gslrm", "generator", "pose")


@dataclass(frozen=True, kw_only=True)
class Models:
    """What single-picture reconstruction needs, all on one device."""

    gslrm: GSLRM
    generator: Generator | LatentGenerator
    pose: PoseEstimator

    def to(self, device: str) -> "Models":
        """Move all of them."""
        return Models(gslrm=self.gslrm.to(device), generator=self.generator.to(device), pose=self.pose.to(device))


def weights_path(name: str) -> Path:
    """Where a shipped weights file lies: "gslrm", "generator" or "pose"."""
    path = Path(str(resources.files("mouselift"))) / "assets" / "weights" / f"{name}.safetensors"
    if not path.is_file():
        raise InputError(
            f"expected the shipped weights {path.name}, found none at {path}; is the installation complete?"
        )
    return path


def load_models(
    gslrm: str | Path | None = None, generator: str | Path | None = None, pose: str | Path | None = None
) -> Models:
    """Load the three models; each that is not named is the shipped one. A folder is a generator as FaceLift's."""
    return Models(
        gslrm=load_gslrm(gslrm or weights_path("gslrm")),
        generator=load_multiview(generator or weights_path("generator")),
        pose=load_pose_estimator(pose or weights_path("pose")),
    )


@functools.cache
def shipped_models() -> Models:
    """The shipped models on the CPU, loaded once in a process."""
    return load_models()
