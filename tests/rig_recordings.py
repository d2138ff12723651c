"""A tiny recording whose geometry is known exactly: an ellipsoid moves in front of four cameras with real lenses."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from videos import write_video

from mouselift.data.calibration import WRITERS, CalibratedCamera, Calibration
from mouselift.geometry import Cameras, look_at, pixel_centres

WIDTH, HEIGHT, FPS = 160, 128, 50
AXES_MM = torch.tensor([30.0, 16.0, 14.0], dtype=torch.float64)
NAMES = ("east", "north", "west", "south")


def rig() -> Cameras:
    """Four cameras around the origin, 280 to 320 mm away, above the ground, with lens distortion."""
    azimuths = torch.deg2rad(torch.tensor([5.0, 95.0, 190.0, 270.0], dtype=torch.float64))
    radii = torch.tensor([280.0, 300.0, 320.0, 290.0], dtype=torch.float64)
    heights = torch.tensor([60.0, 120.0, 80.0, 150.0], dtype=torch.float64)
    eyes = torch.stack([radii * azimuths.cos(), radii * azimuths.sin(), heights], dim=-1)
    K = torch.tensor([[260.0, 0, 82], [0, 255.0, 62], [0, 0, 1]], dtype=torch.float64).expand(4, 3, 3)
    lens = torch.tensor([-0.1, 0.05, 0.001, -0.001, 0.0], dtype=torch.float64).expand(4, 5)
    w2c = look_at(eyes, torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64))
    return Cameras(K=K, w2c=w2c, width=WIDTH, height=HEIGHT, distortion=lens, names=NAMES)


def centre_at(instant: int) -> Tensor:
    """The ellipsoid's centre in mm."""
    return torch.tensor([-20.0 + 1.5 * instant, 10.0 - 0.8 * instant, 14.0], dtype=torch.float64)


@cache
def sample_rays(view: int) -> tuple[Tensor, Tensor]:
    """Centre of a camera, and the directions of 3 x 3 rays through each of its pixels."""
    fine = rig()[view].resized(3 * WIDTH, 3 * HEIGHT)
    pixels = pixel_centres(fine.height, fine.width, fine.K).flatten(0, 1)
    return fine.centres, fine.unproject(pixels, torch.ones(len(pixels), dtype=torch.float64)) - fine.centres


def picture(view: int, centre: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Frame and mask of one camera; the surface is coloured by its place on the body."""
    eye, directions = sample_rays(view)
    start, direction = (eye - centre) / AXES_MM, directions / AXES_MM
    a, b, c = (direction**2).sum(-1), (direction * start).sum(-1), (start**2).sum() - 1
    root = b**2 - a * c
    hit = root > 0
    surface = start + ((-b - root.clamp_min(0).sqrt()) / a)[:, None] * direction
    colours = torch.where(hit[:, None], 110 + 90 * surface, torch.tensor([70.0, 90.0, 80.0], dtype=torch.float64))
    mean = torch.cat([colours, 255 * hit[:, None]], 1).reshape(HEIGHT, 3, WIDTH, 3, 4).mean((1, 3))
    rgba = mean.round().clamp(0, 255).byte().numpy()
    return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])


def calibration_of(cameras: Cameras) -> Calibration:
    """As a file would give it."""
    assert cameras.distortion is not None
    return Calibration(
        cameras=tuple(
            CalibratedCamera(
                name=cameras.names[i],
                K=cameras.K[i],
                w2c=cameras.w2c[i],
                distortion=cameras.distortion[i],
                width=cameras.width,
                height=cameras.height,
            )
            for i in range(len(cameras))
        ),
        format="anipose",
        source=Path("calibration.toml"),
    )


def write_rig_recording(root: Path, num_instants: int = 24, *, order: tuple[int, ...] = (0, 1, 2, 3)) -> Path:
    """Write videos, mask videos and a calibration.

    Args:
        root: The folder; made.
        num_instants: Frames of each video.
        order: Whose pictures each camera's files hold; another order is a mistake to be found.
    """
    cameras = rig()
    root.mkdir(parents=True, exist_ok=True)
    WRITERS["anipose"](root / "calibration.toml", calibration_of(cameras))
    for name, shown in zip(NAMES, order, strict=True):
        frames, masks = zip(*(picture(shown, centre_at(t)) for t in range(num_instants)), strict=True)
        write_video(root / f"{name}.mp4", frames, fps=FPS)
        write_video(root / "masks" / f"{name}.mp4", [np.dstack([mask] * 3) for mask in masks], fps=FPS)
    return root
