"""FaceLift's `opencv_cameras.json`, which every sample of a dataset has.

{frames: [{w, h, fx, fy, cx, cy, w2c, file_path}]}: OpenCV axes, pinholes, the corner of the picture at (0, 0), as here.
MouseLift adds `view_name`, `skew` and, at the top, `scene_from_world`, the similarity that took mm to scene units.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mouselift.atomic import atomic_path
from mouselift.data.calibration.parsing import file_stems, intrinsics, load_json, mapping, matrix, number, size_px
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.data.calibration.writing import check_writable
from mouselift.errors import InputError
from mouselift.geometry import Similarity
from mouselift.geometry.transforms import rigid


def read_facelift(path: Path, *, mm_per_unit: float = 1.0) -> Calibration:
    """Read `opencv_cameras.json`.

    Args:
        path: The file.
        mm_per_unit: Millimetres in one unit of the file's world; that is mm in a file with `scene_from_world`, whose
            cameras are taken back to the world.

    Returns:
        Cameras named by view_name, else by the pictures' files.

    Raises:
        InputError: It is no such file, or a frame lacks a value.
    """
    content = mapping(load_json(path), f"{path}")
    frames = content.get("frames")
    if not isinstance(frames, list):
        raise InputError(f"{path}: expected a list frames, found {', '.join(content) or 'nothing'}")
    frames = [mapping(frame, f"{path}: frame {i}") for i, frame in enumerate(frames)]
    pictures = file_stems([str(frame.get("file_path", i)) for i, frame in enumerate(frames)])
    names = [
        str(frame.get("view_name", frame.get("blender_camera_name", picture)))
        for frame, picture in zip(frames, pictures, strict=True)
    ]
    world_from_scene = _world_from_scene(content, path)
    return Calibration(
        cameras=tuple(
            _camera(name, frame, f"{path}: camera {name!r}", world_from_scene, mm_per_unit)
            for name, frame in zip(names, frames, strict=True)
        ),
        format="facelift",
        source=path,
    )


def _world_from_scene(content: Mapping[str, Any], path: Path) -> Similarity:
    stored = content.get("scene_from_world")
    if stored is None:
        return Similarity.identity(torch.float64)
    scene_from_world = matrix(stored, (4, 4), f"{path}, scene_from_world")
    try:
        return Similarity.from_matrix(scene_from_world).inverse()
    except ValueError as error:
        raise InputError(f"{path}: scene_from_world: {error}") from None


def _camera(
    name: str, frame: Mapping[str, Any], where: str, world_from_scene: Similarity, mm_per_unit: float
) -> CalibratedCamera:
    missing = [key for key in ("w", "h", "fx", "fy", "cx", "cy", "w2c") if key not in frame]
    if missing:
        raise InputError(f"{where}: expected w, h, fx, fy, cx, cy and w2c, found no {missing[0]}")
    fx, fy, cx, cy, skew = (number(frame.get(key, 0.0), f"{where}, {key}") for key in ("fx", "fy", "cx", "cy", "skew"))
    w2c = matrix(frame["w2c"], (4, 4), f"{where}, w2c")
    return CalibratedCamera(
        name=name,
        K=intrinsics(fx, fy, cx, cy, skew),
        w2c=_in_world(w2c, world_from_scene, mm_per_unit),
        width=size_px(frame["w"], f"{where}, w"),
        height=size_px(frame["h"], f"{where}, h"),
    )


def _in_world(w2c: Tensor, world_from_scene: Similarity, mm_per_unit: float) -> Tensor:
    """The last row stays the file's, so that a transposed matrix is found when the cameras are checked."""
    rotation = w2c[:3, :3] @ world_from_scene.rotation.mT
    translation = world_from_scene.scale * w2c[:3, 3] - rotation @ world_from_scene.translation
    moved = rigid(rotation, mm_per_unit * translation)
    moved[3] = w2c[3]
    return moved


def write_facelift(path: Path, calibration: Calibration, *, mm_per_unit: float = 1.0) -> None:
    """Write `opencv_cameras.json` for cameras alone; `file_path` says where FaceLift expects their pictures.

    Raises:
        InputError: A camera has distortion or no size.
    """
    check_writable(calibration, "FaceLift's opencv_cameras.json", distortion=False, needs_size=True)
    frames = []
    for index, camera in enumerate(calibration.cameras):
        w2c = camera.w2c.clone()
        w2c[:3, 3] /= mm_per_unit
        (fx, skew, cx), (_, fy, cy), _ = camera.K.tolist()
        size = {"w": camera.width, "h": camera.height}
        frame = {**size, "fx": fx, "fy": fy, "cx": cx, "cy": cy, "w2c": w2c.tolist()}
        frame |= {"skew": skew} if skew else {}
        frames.append({**frame, "file_path": f"images/cam_{index:03d}.png", "view_name": camera.name})
    with atomic_path(path) as partial:
        partial.write_text(json.dumps({"frames": frames}, indent=1))
