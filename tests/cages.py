"""Pictures of a bright ball with a tail in a dark, littered cage, from one camera or a rig, with its true masks."""

import numpy as np
import torch
from torch import Tensor

from mouselift.geometry import Cameras, camera_rays
from mouselift.geometry.rigs import orbit

SIZE_PX = 160
BALL, TAIL = 0.22, 0.04  # scene units; radii of the animal's body and of the balls that its tail is made of
RIG = orbit([0.0, 80.0, 170.0, 260.0], 35.0, size_px=SIZE_PX).to(torch.float64)


def one_by_one(cameras: Cameras = RIG) -> tuple[Cameras, ...]:
    """The cameras of a rig, as recordings hold them."""
    return tuple(cameras[view : view + 1] for view in range(len(cameras)))


def silhouettes(centre: tuple[float, float, float], cameras: Cameras = RIG) -> list[np.ndarray]:
    """True masks of the animal at a place: a ball, and a row of smaller ones behind it."""
    balls = [(torch.tensor(centre, dtype=torch.float64), BALL)]
    balls += [(balls[0][0] + torch.tensor([BALL + 0.03 * i, 0.0, -0.1]), TAIL) for i in range(10)]
    origins, directions = camera_rays(cameras)
    return [mask.numpy() for mask in torch.stack([_hit(origins - c, directions, r) for c, r in balls]).any(0)]


def _hit(origins: Tensor, directions: Tensor, radius: float) -> Tensor:
    return torch.linalg.cross(origins, directions).norm(dim=-1) < radius


def cage(seed: int, size_px: int = SIZE_PX, level: float = 50.0) -> np.ndarray:
    """A background: dark, with litter as large as a tail is thick."""
    litter = np.random.default_rng(seed).normal(0, 12, (size_px // 4, size_px // 4))
    return np.clip(level + litter.repeat(4, 0).repeat(4, 1), 5, 250)


def picture(background: np.ndarray, mask: np.ndarray, seed: int, animal: float = 200.0) -> np.ndarray:
    """A camera's frame: the animal before the background, with the camera's noise."""
    noise = np.random.default_rng(seed).normal(0, 1.5, background.shape)
    grey = np.where(mask, animal, background) + noise
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def bright(windows: Tensor) -> Tensor:
    """A network for which foreground is what is bright in the stretched window."""
    grey = windows.mean(dim=1, keepdim=True)
    return ((grey - grey.min()) / (grey.max() - grey.min()).clamp_min(1e-6)) ** 4


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two binary masks."""
    return float(np.count_nonzero(a & b) / np.count_nonzero(a | b))
