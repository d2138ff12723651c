"""A page that shows Gaussians from every side: one file that holds all it needs and asks for nothing.

The page itself is `assets/viewer.html`, WebGL 2 and nothing else. (The pages that viser 1.1 exports draw Gaussians in
the right order only when a server delivers them: browsers refuse their sorting thread to pages opened as files.)
"""

import base64
import html
import json
import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.atomic import atomic_path
from mouselift.geometry import Gaussians
from mouselift.geometry.rigs import FACELIFT_FRONT_DEG, MOUSE_FOV_DEG, MOUSE_RIG_ELEVATION_DEG
from mouselift.geometry.transforms import quat_to_rotmat

COVARIANCE_UNIT = 2.0**-14  # scene units^2; in it, half floats hold scales from 0.0001 to 2 with three digits
VISIBLE_OPACITY = 0.1  # fainter Gaussians do not decide where the camera stands
SUBJECT_QUANTILE = 0.99  # of the distances from the middle: strays do not push the camera away
MARGIN = 1.1  # empty space around the subject


def write_viewer_html(gaussians: Gaussians, path: Path | str, title: str = "MouseLift") -> None:
    """Write a self-contained page with an interactive view of one scene.

    Colours are view-independent (degree 0). The first view is that of the input camera's direction, +Z up.

    Args:
        gaussians: No batch dimension, scene frame.
        path: The .html file.
        title: Of the browser's window.

    Raises:
        InputError: If the file cannot be written.
    """
    target, radius = _subject(gaussians)
    half_fov = math.radians(MOUSE_FOV_DEG) / 2
    scene = {
        "count": len(gaussians),
        "target": target.tolist(),
        "distance": MARGIN * radius / math.sin(half_fov),
        "azimuth": math.radians(FACELIFT_FRONT_DEG),
        "elevation": math.radians(MOUSE_RIG_ELEVATION_DEG),
        "fov": 2 * half_fov,
        "covarianceUnit": COVARIANCE_UNIT,
    }
    filled = {
        "{{title}}": html.escape(title),
        "{{scene}}": json.dumps(scene),
        "{{gaussians}}": base64.b64encode(_packed(gaussians)).decode("ascii"),
    }
    page = (files("mouselift") / "assets" / "viewer.html").read_text(encoding="utf-8")
    for mark, text in filled.items():
        page = page.replace(mark, text)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _subject(gaussians: Gaussians) -> tuple[Float[Tensor, "3"], float]:
    """Middle and radius of what can be seen."""
    means = gaussians.means.detach().cpu()
    visible = means[(gaussians.opacities >= VISIBLE_OPACITY).cpu()]
    points = visible if len(visible) else means
    if not len(points):
        return torch.zeros(3), 1.0
    middle = points.median(dim=0).values
    return middle, max(float(np.quantile((points - middle).norm(dim=-1).numpy(), SUBJECT_QUANTILE)), 1e-3)


def _packed(gaussians: Gaussians) -> bytes:
    """The page's two textures: mean and RGBA (16 bytes a Gaussian), then the covariance's upper half (12)."""
    scene = gaussians.detach().to("cpu", torch.float32)
    axes = quat_to_rotmat(scene.quats) * scene.scales[..., None, :]
    covariances = (axes @ axes.mT / COVARIANCE_UNIT)[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    first = np.empty(len(scene), dtype=[("mean", "<f4", 3), ("rgba", "u1", 4)])
    first["mean"] = scene.means.numpy()
    rgba = torch.cat([scene.rgb, scene.opacities[:, None]], dim=-1)
    first["rgba"] = rgba.clamp(0, 1).mul(255).round().byte().numpy()
    largest = float(np.finfo("<f2").max)
    return first.tobytes() + covariances.clamp(-largest, largest).numpy().astype("<f2").tobytes()
