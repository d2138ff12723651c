"""Rays through pixels, and the two ray encodings of GS-LRM."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry.cameras import Cameras


def pixel_centres(height: int, width: int, like: Tensor) -> Float[Tensor, "h w 2"]:
    """Pixel coordinates (column, row) of all pixel centres; the first is (0.5, 0.5)."""
    rows = torch.arange(height, dtype=like.dtype, device=like.device) + 0.5
    columns = torch.arange(width, dtype=like.dtype, device=like.device) + 0.5
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


def camera_rays(cameras: Cameras) -> tuple[Float[Tensor, "*batch h w 3"], Float[Tensor, "*batch h w 3"]]:
    """Cast one ray through each pixel centre, in world (scene) coordinates.

    Returns:
        Camera centres broadcast over pixels, and unit directions pointing away from the camera.
    """
    if cameras.distortion is not None:
        raise ValueError("rays are cast by pinhole cameras; undistort the views first")
    pixels = pixel_centres(cameras.height, cameras.width, like=cameras.K)
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)  # (H, W, 3)
    world_from_pixel = cameras.c2w[..., :3, :3] @ torch.inverse(cameras.K)
    directions = F.normalize(torch.einsum("...ij,hwj->...hwi", world_from_pixel, homogeneous), dim=-1)
    return cameras.centres[..., None, None, :].expand_as(directions), directions


def plucker_rays(cameras: Cameras) -> Float[Tensor, "*batch 6 h w"]:
    """Pluecker coordinates (o x d, d) of every pixel's ray: the encoding of GS-LRM (Zhang et al. 2024)."""
    origins, directions = camera_rays(cameras)
    return torch.cat([torch.cross(origins, directions, dim=-1), directions], dim=-1).movedim(-1, -3)


def nearest_point_rays(cameras: Cameras) -> Float[Tensor, "*batch 6 h w"]:
    """(d, nearest point of the ray to the origin): the encoding of FaceLift's published GS-LRM weights."""
    origins, directions = camera_rays(cameras)
    nearest = origins - (origins * directions).sum(-1, keepdim=True) * directions
    return torch.cat([directions, nearest], dim=-1).movedim(-1, -3)
