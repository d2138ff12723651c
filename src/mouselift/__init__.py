"""MouseLift: one picture of a laboratory mouse in, a 3D Gaussian model out.

The names below are the public API. They are imported here, not at first use: `render` and `reconstruct` are also names
of modules, and an attribute that is sometimes the one and sometimes the other would depend on the order of imports.
"""

__version__ = "0.1.0"

from mouselift.data.calibration import read_cameras
from mouselift.errors import InputError
from mouselift.export.ply import read_ply, write_ply
from mouselift.geometry import Cameras, Gaussians, Views
from mouselift.models.checkpoint_io import load_generator, load_gslrm
from mouselift.reconstruct import reconstruct
from mouselift.render import render

__all__ = [
    "Cameras",
    "Gaussians",
    "InputError",
    "Views",
    "load_generator",
    "load_gslrm",
    "read_cameras",
    "read_ply",
    "reconstruct",
    "render",
    "write_ply",
]
