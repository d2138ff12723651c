"""The frame that one picture gives by itself: no matter how far the camera is and how high it stands."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry.cameras import Cameras
from mouselift.geometry.transforms import Similarity


def half_widths(cameras: Cameras) -> Float[Tensor, "*batch"]:
    """Half the width of each camera's picture at the distance of the scene's origin, scene units."""
    return cameras.centres.square().sum(-1).sqrt() * cameras.width / (2 * cameras.K[..., 0, 0])


def to_picture_frame(camera: Cameras) -> Similarity:
    """Scene to the frame of a picture of the subject at the scene's origin.

    +Z points from the camera through the middle of the picture, +X to the right, +Y down; the origin lies on that ray
    at the depth of the scene's origin, and the unit is half the width of the picture there.

    Args:
        camera: Batch shape (1,), pinhole.

    Raises:
        ValueError: The scene's origin is behind the camera.
    """
    middle = torch.tensor([[camera.width / 2, camera.height / 2]]).to(camera.K[0])
    ray = camera.unproject(middle[None], torch.ones_like(middle[None, :, 0]))[0, 0] - camera.centres[0]
    forward = F.normalize(ray, dim=0)
    right = F.normalize(torch.cross(camera.w2c[0, 1, :3], forward, dim=0), dim=0)
    rotation = torch.stack([right, torch.cross(forward, right, dim=0), forward])
    offset = -rotation @ camera.centres[0]
    depth = float(offset[2])
    if depth <= 0:
        raise ValueError(f"the scene's origin is behind the camera (depth {depth:.3f})")
    half_width = depth * camera.width / (2 * float(camera.K[0, 0, 0]))
    return Similarity(
        scale=offset.new_tensor(1 / half_width),
        rotation=rotation,
        translation=(offset - offset.new_tensor([0.0, 0.0, depth])) / half_width,
    )
