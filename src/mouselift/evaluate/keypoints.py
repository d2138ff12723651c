"""How far labelled points of the body lie from a reconstructed surface, in millimetres."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.body.skeleton import KEYPOINTS
from mouselift.data.layout import Sample
from mouselift.errors import InputError
from mouselift.geometry import Gaussians

SURFACE_OPACITY = 0.5  # of a Gaussian that counts as surface
ARRAY = "keypoints_mm"  # (T, K, 3) in a label file, world of the calibration, row = instant of the recording


def surface_distances_mm(
    scene: Gaussians, keypoints: Float[Tensor, "k 3"], scene_units_per_mm: float
) -> Float[Tensor, "k"]:
    """From each keypoint to the nearest centre of a Gaussian that is at least half opaque.

    Joints lie inside the body: even a perfect surface is several millimetres away from a hip, and about none from
    the nose or the tip of the tail. Compare methods with each other, and keypoint by keypoint.

    Args:
        scene: No batch, in the frame of the keypoints.
        keypoints: Scene units; NaN where unlabelled.
        scene_units_per_mm: Of the sample.

    Returns:
        NaN where a keypoint is unlabelled, and everywhere when nothing is half opaque.
    """
    surface = scene.means[scene.opacities >= SURFACE_OPACITY]
    if not len(surface):
        return torch.full_like(keypoints[:, 0], torch.nan)
    return torch.cdist(keypoints.to(surface), surface).amin(1) / scene_units_per_mm


def read_labels(path: Path) -> Float[np.ndarray, "t k 3"]:
    """A label file: .npz with `keypoints_mm`.

    Raises:
        InputError: It is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected 3D labels (.npz with {ARRAY}), found {error}") from None
    labels = found.get(ARRAY)
    if labels is None or labels.ndim != 3 or labels.shape[-1] != 3:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in found.items())
        raise InputError(f"{path}: expected {ARRAY} of shape (instants, keypoints, 3), found {shapes or 'nothing'}")
    return labels.astype(np.float64)


def keypoints_of(sample: Sample, labels: Float[np.ndarray, "t k 3"] | None) -> Float[Tensor, "k 3"] | None:
    """The sample's labelled keypoints in its scene: from the labels of its recording, or its own when it has any.

    Raises:
        InputError: The labels end before the sample's instant.
    """
    if labels is not None:
        if sample.frame_index >= len(labels):
            raise InputError(
                f"sample {sample.sample_id}: expected labels of instant {sample.frame_index}, found {len(labels)}"
            )
        return sample.scene_from_world.apply(torch.from_numpy(labels[sample.frame_index]).to(sample.views.images))
    own = sample.extra.get("keypoints_scene")
    return None if own is None else torch.tensor(own).to(sample.views.images)


def keypoint_names(count: int) -> tuple[str, ...]:
    """DANNCE's names for its 22 keypoints, else numbers."""
    return tuple(KEYPOINTS) if count == len(KEYPOINTS) else tuple(f"keypoint {k}" for k in range(count))
