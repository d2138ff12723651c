"""Sets of objects seen from many sides, in the layouts of other projects: pictures with alpha and their cameras.

| layout | an object is a folder with | camera, up |
|---|---|---|
| transforms | `transforms*.json` (Nerfstudio, NeRF's Blender scenes) | camera to world, OpenGL axes; +Z |
| colmap | a sparse model, text or binary, and `images/` | COLMAP's; judged by the cameras |
| npy | `000.png`, `000.npy` (zero123's renders of Objaverse) | world to camera 3x4, OpenCV axes; +Z |
| pose | `rgb/000.png`, `pose/000.txt`, perhaps `intrinsics/000.txt` (LGM's) | camera to world 4x4, OpenCV axes; +Z |

Alpha is the mask; pictures without it need `mask_path` in their frame, or a picture of the same name in `masks/`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mouselift.data.calibration.colmap import find_model, read_colmap
from mouselift.data.calibration.nerfstudio import from_transforms
from mouselift.data.calibration.parsing import intrinsics, load_json, mapping
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.errors import InputError
from mouselift.geometry.transforms import invert_rigid

PICTURES = (".png", ".webp", ".jpg", ".jpeg")
MASK_FOLDER = "masks"
OPAQUE = 255
MAX_DEPTH = 4  # folders between the set and its objects


@dataclass(frozen=True, kw_only=True)
class ObjectFolder:
    """Where an object lies.

    Attributes:
        path: Its folder.
        layout: One of the table above.
        name: Its path below the set.
    """

    path: Path
    layout: str
    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectViews:
    """What an object's folder says; pictures are read when they are needed.

    Attributes:
        cameras: In the world of the set.
        pictures: One for each camera.
        masks: One for each camera, or None where the picture's alpha is its mask.
    """

    cameras: tuple[CalibratedCamera, ...]
    pictures: tuple[Path, ...]
    masks: tuple[Path | None, ...]

    def rgba(self, index: int) -> UInt8[np.ndarray, "h w 4"]:
        """Straight colour and mask of one view.

        Raises:
            InputError: A picture cannot be read, or nothing says where the object is.
        """
        path, mask = self.pictures[index], self.masks[index]
        rgba = _read_picture(path, "RGBA")
        if mask is not None:
            alpha = _read_picture(mask, "L")
            if alpha.shape != rgba.shape[:2]:
                raise InputError(f"{mask}: expected the size of {path.name}, found {alpha.shape[1]}x{alpha.shape[0]}")
            rgba = np.dstack([rgba[..., :3], alpha])
        if rgba[..., 3].min() == OPAQUE:
            raise InputError(f"{path}: expected alpha around the object, or a mask, found an opaque picture")
        return rgba


def find_objects(root: Path) -> list[ObjectFolder]:
    """Objects in a set, or the one that `root` itself is, in the order of their names.

    Raises:
        InputError: There is none.
    """
    found = list(_walk(root, root, MAX_DEPTH))
    if not found:
        raise InputError(
            f"{root}: expected objects with transforms.json, a COLMAP model, 000.npy beside 000.png, or rgb/ and "
            "pose/, found none"
        )
    return found


def read_object(folder: ObjectFolder, *, fov_deg: float, mm_per_unit: float = 1.0) -> ObjectViews:
    """The cameras and pictures of one object.

    Args:
        folder: From `find_objects`.
        fov_deg: Horizontal field of view, for layouts that do not say.
        mm_per_unit: Millimetres in one unit of the set's world.

    Raises:
        InputError: A file is missing or damaged, or a camera cannot be right.
    """
    views = READERS[folder.layout](folder.path, fov_deg, mm_per_unit)
    Calibration(cameras=views.cameras, format=folder.layout, source=folder.path)  # checks them
    return views


def _walk(root: Path, folder: Path, depth: int) -> Iterator[ObjectFolder]:
    layout = _layout_of(folder)
    if layout is not None:
        name = folder.name if folder == root else folder.relative_to(root).as_posix()
        yield ObjectFolder(path=folder, layout=layout, name=name)
    elif depth and folder.is_dir():
        for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            yield from _walk(root, inner, depth - 1)


def _layout_of(folder: Path) -> str | None:
    if any(folder.glob("transforms*.json")):
        return "transforms"
    if find_model(folder) is not None:
        return "colmap"
    if (folder / "rgb").is_dir() and (folder / "pose").is_dir():
        return "pose"
    if any(path.with_suffix(".png").is_file() for path in folder.glob("*.npy")):
        return "npy"
    return None


def _read_transforms(folder: Path, fov_deg: float, mm_per_unit: float) -> ObjectViews:
    cameras, pictures, masks = [], [], []
    for file in sorted(folder.glob("transforms*.json")):
        content = mapping(load_json(file), f"{file}")
        raw_frames = content.get("frames")
        if not isinstance(raw_frames, list):
            raise InputError(f"{file}: expected a list frames, found {', '.join(content) or 'nothing'}")
        frames = [mapping(frame, f"{file}: frame {i}") for i, frame in enumerate(raw_frames)]
        paths = [_picture_at(folder / str(frame.get("file_path", f"frame {i}"))) for i, frame in enumerate(frames)]
        sized = [_with_size({**content, **frame}, path) for frame, path in zip(frames, paths, strict=True)]
        cameras += from_transforms({**content, "frames": sized}, file, mm_per_unit=mm_per_unit).cameras
        pictures += paths
        masks += [
            folder / str(frame["mask_path"]) if "mask_path" in frame else _mask_of(folder, path)
            for frame, path in zip(frames, paths, strict=True)
        ]
    renamed = [  # the frames of several files may have the same names
        CalibratedCamera(
            name=path.relative_to(folder).with_suffix("").as_posix(),
            K=camera.K,
            w2c=camera.w2c,
            distortion=camera.distortion,
            width=camera.width,
            height=camera.height,
        )
        for camera, path in zip(cameras, pictures, strict=True)
    ]
    return ObjectViews(cameras=tuple(renamed), pictures=tuple(pictures), masks=tuple(masks))


def _with_size(frame: Mapping[str, Any], picture: Path) -> dict[str, Any]:
    width, height = _size_of(picture)
    return {"w": width, "h": height, **frame}


def _read_colmap(folder: Path, fov_deg: float, mm_per_unit: float) -> ObjectViews:
    calibration = read_colmap(folder, mm_per_unit=mm_per_unit)
    inside = [path for path in sorted((folder / "images").rglob("*")) if path.suffix.lower() in PICTURES]
    by_name = {path.relative_to(folder / "images").as_posix(): path for path in inside}
    by_name |= {path.stem: path for path in inside}
    missing = [name for name in calibration.names if name not in by_name]
    if missing:
        raise InputError(f"{folder / 'images'}: expected a picture of {missing[0]!r}, found none")
    pictures = tuple(by_name[name] for name in calibration.names)
    return ObjectViews(
        cameras=calibration.cameras, pictures=pictures, masks=tuple(_mask_of(folder, p) for p in pictures)
    )


def _read_npy(folder: Path, fov_deg: float, mm_per_unit: float) -> ObjectViews:
    pictures = [path.with_suffix(".png") for path in sorted(folder.glob("*.npy")) if path.with_suffix(".png").is_file()]
    cameras = []
    for picture in pictures:
        file = picture.with_suffix(".npy")
        try:
            values = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{file}: expected a NumPy array, found {str(error).splitlines()[0]}") from None
        if values.shape not in ((3, 4), (4, 4)) or values.dtype.kind != "f":
            raise InputError(f"{file}: expected a 3x4 or 4x4 matrix, found {values.dtype} of shape {values.shape}")
        cameras.append(_pinhole(picture, _affine(torch.from_numpy(values).double()), fov_deg, mm_per_unit))
    return _with_own_masks(folder, cameras, pictures)


def _read_pose(folder: Path, fov_deg: float, mm_per_unit: float) -> ObjectViews:
    cameras, pictures = [], []
    for file in sorted((folder / "pose").glob("*.txt")):
        picture = _picture_at(folder / "rgb" / file.stem)
        c2w = _numbers(file, (4, 4))
        camera = _pinhole(picture, invert_rigid(c2w), fov_deg, mm_per_unit)
        if (lens := folder / "intrinsics" / file.name).is_file():
            camera = CalibratedCamera(
                name=camera.name, K=_numbers(lens, (3, 3)), w2c=camera.w2c, width=camera.width, height=camera.height
            )
        cameras.append(camera)
        pictures.append(picture)
    return _with_own_masks(folder, cameras, pictures)


def _with_own_masks(folder: Path, cameras: list[CalibratedCamera], pictures: list[Path]) -> ObjectViews:
    masks = tuple(_mask_of(folder, picture) for picture in pictures)
    return ObjectViews(cameras=tuple(cameras), pictures=tuple(pictures), masks=masks)


def _pinhole(picture: Path, w2c: Tensor, fov_deg: float, mm_per_unit: float) -> CalibratedCamera:
    width, height = _size_of(picture)
    focal = width / 2 / float(np.tan(np.radians(fov_deg) / 2))
    w2c = w2c.clone()
    w2c[:3, 3] *= mm_per_unit
    K = intrinsics(focal, focal, width / 2, height / 2)
    return CalibratedCamera(name=picture.stem, K=K, w2c=w2c, width=width, height=height)


def _affine(matrix: Tensor) -> Tensor:
    return matrix if len(matrix) == 4 else torch.cat([matrix, matrix.new_tensor([[0.0, 0.0, 0.0, 1.0]])])


def _numbers(file: Path, shape: tuple[int, int]) -> Tensor:
    try:
        values = [float(word) for word in file.read_text().split()]
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: expected {shape[0] * shape[1]} numbers, found {error}") from None
    if len(values) != shape[0] * shape[1]:
        raise InputError(f"{file}: expected {shape[0] * shape[1]} numbers, found {len(values)}")
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def _picture_at(path: Path) -> Path:
    """A picture whose file may be named without its suffix, as Blender's scenes do."""
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in PICTURES)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(f"expected the picture {path}, found no such file")


def _mask_of(folder: Path, picture: Path) -> Path | None:
    """`masks/NAME.png`, or COLMAP's `masks/NAME.jpg.png`, where it is."""
    for name in (f"{picture.stem}.png", f"{picture.name}.png"):
        if (folder / MASK_FOLDER / name).is_file():
            return folder / MASK_FOLDER / name
    return None


def _size_of(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            return picture.size
    except OSError as error:
        raise InputError(f"{path}: expected a picture, found {error}") from None


def _read_picture(path: Path, mode: str) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert(mode))
    except OSError as error:
        raise InputError(f"{path}: expected a picture, found {error}") from None


READERS: dict[str, Callable[[Path, float, float], ObjectViews]] = {
    "transforms": _read_transforms,
    "colmap": _read_colmap,
    "npy": _read_npy,
    "pose": _read_pose,
}
