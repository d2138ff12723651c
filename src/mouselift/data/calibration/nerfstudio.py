"""Nerfstudio's `transforms.json`, and the Blender scenes of NeRF before it.

Camera to world, with OpenGL's axes (y up, z backwards); fl_x, fl_y, cx, cy, w, h, k1, k2, k3, p1, p2 at the top or in
each frame; the corner of the picture at (0, 0), as here. `applied_transform` and `applied_scale`, which tell how the
world was turned and scaled after the calibration, are undone. The unit is arbitrary: give `mm_per_unit`.

Source: docs.nerf.studio, "Data conventions", and Nerfstudio's own parser for the order of the two `applied_` values.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mouselift.atomic import atomic_path
from mouselift.data.calibration.parsing import (
    distortion,
    file_stems,
    intrinsics,
    load_json,
    mapping,
    matrix,
    number,
    size_px,
)
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.data.calibration.writing import check_writable, distortion_list
from mouselift.errors import InputError
from mouselift.geometry.transforms import invert_rigid, rigid

MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE")


def read_nerfstudio(path: Path, *, mm_per_unit: float = 1.0) -> Calibration:
    """Read `transforms.json`.

    Args:
        path: The file.
        mm_per_unit: Millimetres in one unit of the world before `applied_scale`.

    Returns:
        One camera for each frame, named by its picture's file.

    Raises:
        InputError: It is no such file, a frame lacks a value, or its camera model is not held (fisheye and others).
    """
    return from_transforms(mapping(load_json(path), f"{path}"), path, mm_per_unit=mm_per_unit)


def from_transforms(content: Mapping[str, Any], path: Path, *, mm_per_unit: float = 1.0) -> Calibration:
    """As `read_nerfstudio`, from the file's content; `path` names it in messages."""
    frames = content.get("frames")
    if not isinstance(frames, list):
        raise InputError(f"{path}: expected a list frames, found {', '.join(content) or 'nothing'}")
    frames = [mapping(frame, f"{path}: frame {i}") for i, frame in enumerate(frames)]
    names = file_stems([str(frame.get("file_path", i)) for i, frame in enumerate(frames)])
    applied = content.get("applied_transform")
    turn = torch.eye(4, dtype=torch.float64) if applied is None else _affine(applied, f"{path}, applied_transform")
    scale = number(content.get("applied_scale", 1.0), f"{path}, applied_scale")
    if not 0 < scale < math.inf:
        raise InputError(f"{path}: expected a positive applied_scale, found {scale:g}")
    return Calibration(
        cameras=tuple(
            _camera(name, {**content, **frame}, f"{path}: camera {name!r}", turn, mm_per_unit, scale)
            for name, frame in zip(names, frames, strict=True)
        ),
        format="nerfstudio",
        source=path,
    )


def _camera(
    name: str, values: Mapping[str, Any], where: str, new_from_old: Tensor, mm_per_unit: float, applied_scale: float
) -> CalibratedCamera:
    model = str(values.get("camera_model", "OPENCV"))
    if model not in MODELS:
        raise InputError(f"{where}: expected the camera model {', '.join(MODELS)}, found {model}")
    if "transform_matrix" not in values:
        raise InputError(f"{where}: expected transform_matrix, found none")
    c2w = _affine(values["transform_matrix"], f"{where}, transform_matrix")
    c2w[:3, 3] /= applied_scale
    c2w = torch.linalg.solve(new_from_old, c2w)
    c2w[:3, 1:3] *= -1  # OpenGL's camera axes to OpenCV's
    c2w[:3, 3] *= mm_per_unit
    width, height = (size_px(values[key], f"{where}, {key}") if key in values else None for key in ("w", "h"))
    lens = [number(values.get(key, 0.0), f"{where}, {key}") for key in ("k1", "k2", "p1", "p2", "k3", "k4")]
    if lens[5] != 0:
        raise InputError(f"{where}: expected distortion k1 k2 p1 p2 k3 only, found k4 = {lens[5]:g}")
    return CalibratedCamera(
        name=name,
        K=_intrinsics(values, width, height, where),
        w2c=rigid(c2w[:3, :3].mT, -(c2w[:3, :3].mT @ c2w[:3, 3])),
        distortion=distortion(lens[:5], where),
        width=width,
        height=height,
    )


def _affine(value: Any, where: str) -> Tensor:
    """A 4x4 matrix, or a 3x4 one and its last row."""
    last = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    if isinstance(value, list) and len(value) == 3:
        return torch.cat([matrix(value, (3, 4), where), last])
    affine = matrix(value, (4, 4), where)
    if not torch.equal(affine[3:], last):
        raise InputError(f"{where}: expected the last row 0 0 0 1, found {affine[3].tolist()}; is it transposed?")
    return affine


def _intrinsics(values: Mapping[str, Any], width: int | None, height: int | None, where: str) -> Tensor:
    """From focal lengths or, as Blender scenes have it, the horizontal angle of view; the centre is the default."""
    if "fl_x" in values:
        fx = number(values["fl_x"], f"{where}, fl_x")
    elif "camera_angle_x" in values and width is not None:
        fx = width / 2 / math.tan(number(values["camera_angle_x"], f"{where}, camera_angle_x") / 2)
    else:
        raise InputError(f"{where}: expected fl_x, or camera_angle_x and w, found neither")
    fy = number(values.get("fl_y", fx), f"{where}, fl_y")
    centre = []
    for key, size in (("cx", width), ("cy", height)):
        if key not in values and size is None:
            raise InputError(f"{where}: expected {key}, or the image size, found neither")
        centre.append(number(values[key], f"{where}, {key}") if key in values else (size or 0) / 2)
    return intrinsics(fx, fy, centre[0], centre[1])


def write_nerfstudio(path: Path, calibration: Calibration, *, mm_per_unit: float = 1.0) -> None:
    """Write `transforms.json` for cameras alone; `file_path` is the camera's name.

    Raises:
        InputError: A camera has skew or no size.
    """
    check_writable(calibration, "Nerfstudio's transforms.json", skew=False, needs_size=True)
    frames = []
    for camera in calibration.cameras:
        c2w = invert_rigid(camera.w2c)
        c2w[:3, 1:3] *= -1
        c2w[:3, 3] /= mm_per_unit
        (fx, _, cx), (_, fy, cy), _ = camera.K.tolist()
        lens = dict(zip(("k1", "k2", "p1", "p2", "k3"), distortion_list(camera), strict=True))
        size = {"w": camera.width, "h": camera.height}
        frames.append(
            {
                "file_path": camera.name,
                **{"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, **size, **lens},
                "transform_matrix": c2w.tolist(),
            }
        )
    with atomic_path(path) as partial:
        partial.write_text(json.dumps({"camera_model": "OPENCV", "frames": frames}, indent=1))
