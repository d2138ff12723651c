"""Multi-view sets of objects from other projects into a dataset, so that GS-LRM can be pre-trained on them."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from mouselift.atomic import remove_leftovers
from mouselift.data.calibration.record import Calibration
from mouselift.data.consistency import diagnose, hull_iou
from mouselift.data.crop import crop_maps, crop_view
from mouselift.data.layout import encode_png, sample_folder_name, write_dataset, write_sample_pictures
from mouselift.data.objects import ObjectFolder, ObjectViews, find_objects, read_object
from mouselift.data.progress import fingerprint_of, is_finished, read_left_out, write_left_out
from mouselift.data.subject import locate
from mouselift.errors import InputError
from mouselift.export.dataset import write_contact_sheet
from mouselift.geometry import Cameras, Similarity
from mouselift.geometry.rigs import RIG_RADIUS, pinhole_K, rig_up, turn_to_z_up

MASK_PX = 160  # of the masks by which objects are placed and judged
JUDGED_VIEWS = 8
JUDGED_RAYS = 300
COLOUR_REACH_PX = 9  # colours are carried so far outwards, before transparent pixels can darken the edge
MAX_FOV_DEG = 120.0


@dataclass(frozen=True, kw_only=True)
class ObjectsConfig:
    """How objects become samples."""

    size_px: int = 256
    min_views: int = 4
    max_views: int = 32
    """Of an object with more views so many are taken, evenly."""
    margin: float = 1.1
    """Of the frame around the object, in the view that needs most."""
    fov_deg: float = 49.13
    """Horizontal field of view of sets that do not say theirs; 49.13 is that of zero123's renders (35 mm on 32 mm).
    Masks and cameras agree with a wrong one too, as long as it is wrong in all views alike."""
    mm_per_unit: float = 1.0
    """Millimetres in one unit of the set's world, for `scene_from_world`."""
    min_overlap: float = 0.7
    """Least mean overlap of an object's masks with the silhouettes of their common hull: less means wrong cameras."""
    val_share: float = 0.02
    """Share of the objects, the last ones, that is held out."""

    def __post_init__(self) -> None:
        if not 2 <= self.min_views <= self.max_views or self.size_px < 16:
            raise InputError(
                f"expected 2 <= min_views <= max_views and size_px >= 16, found {self.min_views}, {self.max_views} and "
                f"{self.size_px}"
            )
        if not (0 <= self.val_share < 1 and 0 <= self.min_overlap <= 1 <= self.margin and self.mm_per_unit > 0):
            raise InputError(
                "expected val_share in [0, 1), min_overlap in [0, 1], margin >= 1 and mm_per_unit > 0, found "
                f"{self.val_share}, {self.min_overlap}, {self.margin} and {self.mm_per_unit}"
            )


@dataclass(frozen=True, kw_only=True)
class ImportedObjects:
    """What came out: numbers of samples, and why objects were left out, by their names."""

    num_train: int
    num_val: int
    left_out: dict[str, str]


def import_objects(
    root: Path, config: ObjectsConfig, out: Path, *, workers: int = 1, progress: bool = True
) -> ImportedObjects:
    """Write a dataset of the objects below a folder.

    Each object stands in a scene of its own: +Z up, its hull's centre at the origin, the mean distance of its cameras
    2.7. Every view is cut out of its picture in one interpolation, by a camera at the same centre that looks at the
    origin; all views of an object share one field of view, which holds it in every one of them.

    Objects that are there already are left as they are, so a run that was cut off goes on; those that cannot be used
    are listed in `left_out.tsv` with the reason, and not tried again.

    Args:
        root: The set, or a single object.
        config: How.
        out: The dataset folder; made when missing.
        workers: Threads.
        progress: Show a bar.

    Raises:
        InputError: No object can be used, or the folder holds samples that were made otherwise.
    """
    objects = find_objects(root)
    out.mkdir(parents=True, exist_ok=True)
    names = [sample_folder_name(i) for i in range(len(objects))]
    remove_leftovers(out, names)
    fingerprint = fingerprint_of(asdict(config))
    left_out = read_left_out(out)
    tried = [
        folder.name in left_out or is_finished(out / name, fingerprint, object=folder.name)
        for name, folder in zip(names, objects, strict=True)
    ]
    missing = [i for i, done in enumerate(tried) if not done]
    make = partial(_try_one, objects, names, config, out, fingerprint)
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(
            total=len(objects),
            initial=len(objects) - len(missing),
            desc="import",
            unit="object",
            disable=None if progress else True,
        ) as bar,
    ):
        for i, problem in pool.map(make, missing):
            if problem is not None:
                left_out[objects[i].name] = problem
                write_left_out(out, left_out)
            bar.update()
    used = [name for name, folder in zip(names, objects, strict=True) if folder.name not in left_out]
    if not used:
        first = next(iter(left_out.items()))
        raise InputError(
            f"{root}: expected objects that can be used, found none of {len(objects)}; {first[0]}: {first[1]}"
        )
    num_val = max(round(config.val_share * len(used)), 1) if len(used) > 1 and config.val_share > 0 else 0
    splits = {"train": used[: len(used) - num_val], "val": used[len(used) - num_val :]}
    record = {"made_by": "mouselift import-objects", "config": asdict(config), "config_sha256": fingerprint}
    write_dataset(out, splits, {**record, "left_out": len(left_out)})
    write_contact_sheet(out, used)
    return ImportedObjects(num_train=len(splits["train"]), num_val=num_val, left_out=left_out)


def _try_one(
    objects: Sequence[ObjectFolder], names: Sequence[str], config: ObjectsConfig, out: Path, fingerprint: str, i: int
) -> tuple[int, str | None]:
    """Write one object's sample, or say why it cannot be used."""
    folder = objects[i]
    try:
        views = read_object(folder, fov_deg=config.fov_deg, mm_per_unit=config.mm_per_unit)
        rgba, cameras = _chosen_views(views, config)
        scene_from_world, fov_deg = _place(rgba, cameras, config)
    except InputError as error:
        return i, str(error)
    lenses = [camera.transformed(scene_from_world) for camera in cameras]
    origin, K = torch.zeros(3, dtype=torch.float64), pinhole_K(fov_deg, config.size_px).double()
    virtual = Cameras.cat([lens.looking_at(origin, K, config.size_px) for lens in lenses])
    pictures = []
    for v, (pixels, lens) in enumerate(zip(rgba, lenses, strict=True)):
        filled = _colours_carried_outwards(pixels)
        (crop,) = crop_maps(lens, virtual[[v]])
        pictures.append(encode_png(crop_view(filled[..., :3], filled[..., 3], crop)))
    write_sample_pictures(
        out / names[i],
        pictures,
        virtual.to(torch.float32),
        sample_id=names[i],
        frame_index=i,
        scene_from_world=scene_from_world,
        extra={"object": folder.name, "layout": folder.layout, "config_sha256": fingerprint},
    )
    return i, None


def _chosen_views(views: ObjectViews, config: ObjectsConfig) -> tuple[list[UInt8[np.ndarray, "_ _ 4"]], list[Cameras]]:
    """Pictures and cameras (1,) of the views that show something, evenly chosen."""
    count = len(views.cameras)
    step = max(1.0, count / config.max_views)
    rgba, cameras = [], []
    for k in range(min(count, config.max_views)):
        index = int(k * step)
        pixels = views.rgba(index)
        if not (pixels[..., 3] > 127).any():
            continue
        single = Calibration(cameras=(views.cameras[index],), format="object", source=views.pictures[index])
        rgba.append(pixels)
        cameras.append(single.each([(pixels.shape[1], pixels.shape[0])])[0])
    if len(cameras) < config.min_views:
        raise InputError(f"expected at least {config.min_views} views that show the object, found {len(cameras)}")
    return rgba, cameras


def _place(
    rgba: Sequence[UInt8[np.ndarray, "_ _ 4"]], cameras: Sequence[Cameras], config: ObjectsConfig
) -> tuple[Similarity, float]:
    """Where the scene's origin is, its scale and which way is up; and the field of view that holds the object.

    Raises:
        InputError: The masks and the cameras do not belong together.
    """
    alphas = [cv2.resize(pixels[..., 3], (MASK_PX, MASK_PX), interpolation=cv2.INTER_AREA) for pixels in rgba]
    masks = torch.from_numpy(np.stack(alphas))[:, None].float() / 255
    small = _joined([camera.resized(MASK_PX, MASK_PX) for camera in cameras])
    judged = [int(k * len(small) / min(len(small), JUDGED_VIEWS)) for k in range(min(len(small), JUDGED_VIEWS))]
    overlap = float(hull_iou(masks[judged], small[judged], JUDGED_RAYS).mean())
    if overlap < config.min_overlap:
        suspicion = diagnose([masks[judged]], small[judged])
        why = "" if suspicion is None else f"; {suspicion.cause} would give {suspicion.iou:.2f}"
        raise InputError(
            f"expected masks and cameras that agree, found an overlap with their common hull of {overlap:.2f}{why}"
        )
    subject = locate(masks, small)
    if subject is None:
        raise InputError("expected masks with a volume in common, found none")
    turn = turn_to_z_up(rig_up(small))
    scale = RIG_RADIUS / float((small.centres - subject.centre).norm(dim=-1).mean())
    scene_from_world = Similarity(
        scale=torch.tensor(scale, dtype=torch.float64), rotation=turn, translation=-scale * (turn @ subject.centre)
    )
    return scene_from_world, _fov_deg(masks, small.transformed(scene_from_world), config.margin)


def _fov_deg(masks: Float[Tensor, "v 1 h w"], cameras: Cameras, margin: float) -> float:
    """The field of view with which cameras that look at the origin hold all masks, and a margin."""
    ahead = cameras.looking_at(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64), 1)
    largest = 0.0
    for v in range(len(cameras)):
        rows, columns = (masks[v, 0] > 0.5).nonzero(as_tuple=True)
        if not len(rows):  # too thin to be seen in the small mask
            continue
        pixels = torch.stack([columns, rows], dim=-1).double() + 0.5
        points = cameras[v].unproject(pixels, torch.ones(len(pixels), dtype=torch.float64))
        largest = max(largest, float(ahead[v].project(points).abs().max()))
    fov_deg = 2 * math.degrees(math.atan(margin * largest))
    if not 0 < fov_deg < MAX_FOV_DEG:
        raise InputError(
            f"expected an object that a view of less than {MAX_FOV_DEG:g} degrees holds, found {fov_deg:.0f}"
        )
    return fov_deg


def _joined(cameras: Sequence[Cameras]) -> Cameras:
    """Of one size, pinholes beside lenses, as one batch."""
    if all(camera.distortion is None for camera in cameras):
        return Cameras.cat(cameras)
    none = torch.zeros(1, 5, dtype=torch.float64)
    return Cameras.cat([c if c.distortion is not None else replace(c, distortion=none) for c in cameras])


def _colours_carried_outwards(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """The same picture with the colours of its edge continued into what is transparent.

    Renders are black there, which interpolation would mix into the edge.
    """
    alpha = rgba[..., 3:].astype(np.float32) / 255
    kernel = (COLOUR_REACH_PX, COLOUR_REACH_PX)
    around = cv2.blur(rgba[..., :3].astype(np.float32) * alpha, kernel)
    carried = around / np.maximum(cv2.blur(alpha[..., 0], kernel)[..., None], 1e-6)
    solid = alpha > 0.5  # the colour of a pixel that is mostly transparent is rounded, and often wrong
    colours = np.where(solid, rgba[..., :3], np.clip(carried, 0, 255)).round().astype(np.uint8)
    return np.ascontiguousarray(np.dstack([colours, rgba[..., 3]]))
