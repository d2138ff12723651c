"""`.splat` files (antimatter15): 32 bytes for each Gaussian, one after the other, without a header.

Layout: position 3 x float32, standard deviations 3 x float32 (not logarithms), RGBA 4 x uint8, quaternion (w, x, y, z)
4 x uint8 as 128 + 128 q. Colour is that of degree 0, within [0, 1]; higher degrees have no place.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.geometry import Gaussians
from mouselift.geometry.sh import dc_from_rgb

RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
QUAT_ZERO, QUAT_STEP = 128, 1 / 128  # of the bytes


def write_splat(gaussians: Gaussians, path: Path | str) -> None:
    """Write one scene, the most visible Gaussians first: viewers show the file while it loads.

    Args:
        gaussians: No batch dimension; of the spherical harmonics only degree 0 is kept.
        path: The file; an earlier one is replaced only by a whole new one.

    Raises:
        InputError: If the file cannot be written.
        ValueError: If there is a batch dimension, or a value is not finite.
    """
    if gaussians.batch_shape:
        raise ValueError(f"a .splat file holds one scene, found batch shape {tuple(gaussians.batch_shape)}")
    scene = gaussians.detach().to("cpu", torch.float32)
    for name in ("means", "scales", "quats", "opacities", "sh"):
        if not bool(torch.isfinite(getattr(scene, name)).all()):
            raise ValueError(f"a .splat file: {name} has values that are not finite")
    rgba = torch.cat([scene.rgb, scene.opacities[:, None]], dim=-1).clamp(0, 1).mul(255).round()
    turns = F.normalize(scene.quats, dim=-1)
    turns = turns * torch.where(turns[:, :1] < 0, -1, 1)  # +1 has no byte: with w >= 0 only one of four is cut
    records = np.empty(len(scene), dtype=RECORD)
    records["mean"], records["scale"] = scene.means.numpy(), scene.scales.numpy()
    records["rgba"] = rgba.byte().numpy()
    records["quat"] = (turns / QUAT_STEP + QUAT_ZERO).round().clamp(0, 255).byte().numpy()
    weight = scene.scales.double().prod(-1) * scene.opacities
    records = records[torch.argsort(weight, descending=True, stable=True).numpy()]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(records.data)


def read_splat(path: Path | str) -> Gaussians:
    """Read a `.splat` file.

    Returns:
        Float32, no batch dimension, SH degree 0, in the order of the file.

    Raises:
        InputError: If the file cannot be read, its size is no multiple of 32 bytes, or it has values that make no
            Gaussian.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected a .splat file, found: {error.strerror}") from error
    if len(data) % RECORD.itemsize:
        raise InputError(f"{path}: expected {RECORD.itemsize} bytes for each Gaussian, found {len(data)} bytes in all")
    records = np.frombuffer(data, dtype=RECORD)
    means, scales, rgba, turns = (
        torch.from_numpy(records[name].astype(np.float32)) for name in ("mean", "scale", "rgba", "quat")
    )
    turns = (turns - QUAT_ZERO) * QUAT_STEP
    for what, good in {
        "finite positions": means.isfinite().all(-1),
        "finite scales above 0": (scales.isfinite() & (scales > 0)).all(-1),
        "quaternions that are not all zero": turns.any(-1),
    }.items():
        if not bool(good.all()):
            raise InputError(f"{path}: expected {what}, found others in Gaussian {int((~good).nonzero()[0])}")
    return Gaussians(
        means=means,
        quats=F.normalize(turns, dim=-1),
        scales=scales,
        opacities=rgba[:, 3] / 255,
        sh=dc_from_rgb(rgba[:, :3] / 255)[:, None],
    )
