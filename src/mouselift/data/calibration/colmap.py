"""COLMAP's sparse models: `cameras` and `images`, as text (read and written here) or binary (read through pycolmap).

Each image is a camera of ours: w2c from a quaternion (w, x, y, z) and a translation, OpenCV axes, the corner of the
picture at (0, 0), as here. The unit is arbitrary unless the model was aligned: give `mm_per_unit`.

Source: colmap.github.io, "Output Format" and "Camera Models".
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from mouselift.atomic import atomic_path
from mouselift.data.calibration.parsing import distortion, file_stems, intrinsics, read_bytes, read_text
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.data.calibration.writing import check_writable, distortion_list
from mouselift.errors import InputError
from mouselift.geometry.transforms import quat_to_rotmat, rigid, rotmat_to_quat

# Where each parameter of a model belongs; f is both focal lengths, k4 to k6 must be 0.
MODELS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
}


@dataclass(frozen=True, kw_only=True)
class _Lens:
    """A line of `cameras.txt`, which several images may share."""

    model: str
    width: int
    height: int
    parameters: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class _Image:
    """A line of `images.txt`."""

    name: str
    lens: int
    rotation: Tensor
    translation: Tensor


def find_model(path: Path) -> Path | None:
    """The folder with `cameras` and `images`: the given one, its `sparse/0` or its `sparse`; None without any."""
    for folder in (path, path / "sparse" / "0", path / "sparse"):
        for suffix in (".txt", ".bin"):
            if (folder / f"cameras{suffix}").is_file() and (folder / f"images{suffix}").is_file():
                return folder
    return None


def read_colmap(path: Path, *, mm_per_unit: float = 1.0) -> Calibration:
    """Read a sparse model.

    Args:
        path: Its folder, the project's folder, or one of the model's files. Text goes before binary where both are.
        mm_per_unit: Millimetres in one unit of the model.

    Returns:
        One camera for each image, named by its file, in the model's order.

    Raises:
        InputError: A file is missing or damaged, a camera model is not held (fisheye and others), or the model is
            binary and pycolmap is missing.
    """
    folder = find_model(path if path.is_dir() else path.parent)
    if folder is None:
        raise InputError(f"{path}: expected a COLMAP model with cameras and images (.txt or .bin), found none")
    lenses, images = _read_text(folder) if (folder / "cameras.txt").is_file() else _read_binary(folder)
    cameras = []
    for name, image in zip(file_stems([image.name for image in images]), images, strict=True):
        where = f"{folder}: image {image.name!r}"
        if image.lens not in lenses:
            raise InputError(f"{where}: expected the camera {image.lens}, which cameras does not have")
        cameras.append(_camera(name, image, lenses[image.lens], mm_per_unit, where))
    return Calibration(cameras=tuple(cameras), format="colmap", source=path)


def _camera(name: str, image: _Image, lens: _Lens, mm_per_unit: float, where: str) -> CalibratedCamera:
    if lens.model not in MODELS:
        raise InputError(f"{where}: expected a camera model of {', '.join(MODELS)}, found {lens.model}")
    keys = MODELS[lens.model].split()
    if len(keys) != len(lens.parameters):
        raise InputError(f"{where}: expected {len(keys)} parameters of {lens.model}, found {len(lens.parameters)}")
    value = dict(zip(keys, lens.parameters, strict=True))
    coefficients = [value.get(key, 0.0) for key in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")]
    fx, fy = (value.get(key, value.get("f", 0.0)) for key in ("fx", "fy"))
    return CalibratedCamera(
        name=name,
        K=intrinsics(fx, fy, value["cx"], value["cy"]),
        w2c=rigid(image.rotation, mm_per_unit * image.translation),
        distortion=distortion(coefficients, f"{where}, {lens.model}"),
        width=lens.width,
        height=lens.height,
    )


def _read_text(folder: Path) -> tuple[dict[int, _Lens], list[_Image]]:
    lenses, images = {}, []
    file = folder / "cameras.txt"
    for number, line in _lines(file):
        if not line.strip():
            continue
        try:
            camera_id, model, width, height, *parameters = line.split()
            lenses[int(camera_id)] = _Lens(
                model=model, width=int(width), height=int(height), parameters=[float(p) for p in parameters]
            )
        except ValueError:
            raise InputError(f"{file}:{number}: expected ID MODEL WIDTH HEIGHT PARAMS, found {line[:60]!r}") from None
    file = folder / "images.txt"
    for number, line in _lines(file)[::2]:  # every second line holds the image's points, and may be empty
        if not line.strip():
            continue
        try:
            _, *pose, camera_id, name = line.split(maxsplit=9)
            quat, translation = torch.tensor([float(p) for p in pose], dtype=torch.float64).split([4, 3])
            if not bool(quat.norm() > 1e-6):
                raise ValueError
            images.append(
                _Image(name=name, lens=int(camera_id), rotation=quat_to_rotmat(quat), translation=translation)
            )
        except (ValueError, RuntimeError):
            raise InputError(
                f"{file}:{number}: expected ID QW QX QY QZ TX TY TZ CAMERA NAME, found {line[:60]!r}"
            ) from None
    return lenses, images


def _lines(file: Path) -> list[tuple[int, str]]:
    """Numbered lines that are no comments; empty ones count."""
    lines = enumerate(read_text(file).splitlines(), start=1)
    return [(number, line) for number, line in lines if not line.startswith("#")]


def _read_binary(folder: Path) -> tuple[dict[int, _Lens], list[_Image]]:
    try:
        import pycolmap  # pyright: ignore[reportMissingImports] (an extra)
    except ModuleNotFoundError:
        raise InputError(
            f"{folder}: a binary COLMAP model needs pycolmap (pip install 'mouselift[colmap]'), or convert it to text"
        ) from None
    camera_bytes = len(read_bytes(folder / "cameras.bin"))
    _check_whole(folder / "images.bin")
    with TemporaryDirectory() as bare:
        # Without the points, which are most of a model and none of our business.
        (Path(bare) / "points3D.bin").write_bytes(bytes(8))
        for name in ("cameras.bin", "images.bin", "rigs.bin", "frames.bin"):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, Path(bare) / name)
        try:
            model = pycolmap.Reconstruction(bare)
        except (ValueError, RuntimeError, IndexError, MemoryError) as error:
            raise InputError(f"{folder}: expected a COLMAP model, found {' '.join(str(error).split())}") from None
    lenses = {
        key: _Lens(
            model=lens.model.name, width=lens.width, height=lens.height, parameters=[float(p) for p in lens.params]
        )
        for key, lens in model.cameras.items()
    }
    if camera_bytes < 8 + sum(24 + 8 * len(lens.parameters) for lens in lenses.values()):
        raise InputError(
            f"{folder / 'cameras.bin'}: expected {len(lenses)} cameras, found a file that ends before them"
        )
    images = []
    for _, image in sorted(model.images.items()):
        if not image.has_pose:
            continue
        pose = torch.from_numpy(image.cam_from_world().matrix().copy()).double()
        images.append(_Image(name=image.name, lens=image.camera_id, rotation=pose[:, :3], translation=pose[:, 3]))
    return lenses, images


def _check_whole(file: Path) -> None:
    """Walk along `images.bin`: COLMAP's own reader does not notice its end, and fills the memory instead."""
    content, position = read_bytes(file), 8
    count = int.from_bytes(content[:8], "little")
    for _ in range(count):
        name_end = content.find(b"\0", position + 64)  # behind id, quaternion, translation and camera
        if name_end < 0 or name_end + 9 > len(content):
            position = len(content) + 1
            break
        points = int.from_bytes(content[name_end + 1 : name_end + 9], "little")
        position = name_end + 9 + 24 * points
    if position > len(content):
        raise InputError(f"{file}: expected {count} images, found a file that ends before them")


def write_colmap(folder: Path, calibration: Calibration, *, mm_per_unit: float = 1.0) -> None:
    """Write `cameras.txt`, `images.txt` and an empty `points3D.txt` into `folder`, which is made where it is missing.

    Raises:
        InputError: A camera has skew, no size, or a name with spaces, where COLMAP's own reader would cut it.
    """
    check_writable(calibration, "COLMAP", skew=False, needs_size=True)
    for name in calibration.names:
        if len(name.split()) != 1 or name != name.strip():
            raise InputError(f"{calibration.source}: expected camera names without spaces for COLMAP, found {name!r}")
    cameras, images = [], []
    for index, camera in enumerate(calibration.cameras, start=1):
        (fx, _, cx), (_, fy, cy), _ = camera.K.tolist()
        k1, k2, p1, p2, k3 = distortion_list(camera)
        model, lens = ("FULL_OPENCV", [k1, k2, p1, p2, k3, 0.0, 0.0, 0.0]) if k3 else ("OPENCV", [k1, k2, p1, p2])
        if camera.distortion is None:
            model, lens = "PINHOLE", []
        quat, translation = rotmat_to_quat(camera.w2c[:3, :3]).tolist(), (camera.w2c[:3, 3] / mm_per_unit).tolist()
        cameras.append(_row(index, model, camera.width, camera.height, fx, fy, cx, cy, *lens))
        images += [_row(index, *quat, *translation, index, camera.name), ""]
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("cameras.txt", cameras), ("images.txt", images), ("points3D.txt", [])):
        with atomic_path(folder / name) as partial:
            partial.write_text("".join(f"{line}\n" for line in [f"# {name}", *lines]), encoding="utf-8")


def _row(*values: object) -> str:
    return " ".join(map(str, values))
