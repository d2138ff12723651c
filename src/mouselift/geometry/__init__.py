"""Cameras, views, Gaussians and the transforms between them: pure functions and frozen dataclasses."""

from mouselift.geometry.cameras import Cameras
from mouselift.geometry.gaussians import Gaussians
from mouselift.geometry.rays import camera_rays, nearest_point_rays, pixel_centres, plucker_rays
from mouselift.geometry.transforms import Similarity, look_at
from mouselift.geometry.views import Views

__all__ = [
    "Cameras",
    "Gaussians",
    "Similarity",
    "Views",
    "camera_rays",
    "look_at",
    "nearest_point_rays",
    "pixel_centres",
    "plucker_rays",
]
