"""From a recording to a training set: survey the masks, choose the frame, cut every view out of its frame once."""

import json
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

import mouselift
from mouselift.atomic import remove_leftovers
from mouselift.data.boxed import BoxedMask, MaskStore
from mouselift.data.crop import CropMap, Needed, crop_maps, crop_part, what_is_needed
from mouselift.data.layout import (
    CAMERA_FILE,
    DATASET_FILE,
    SPLIT_FILES,
    encode_png_bgra,
    sample_folder_name,
    write_dataset,
    write_sample_pictures,
)
from mouselift.data.plan import Look, Plan, PrepareConfig, make_plan, virtual_cameras
from mouselift.data.progress import fingerprint_of
from mouselift.data.recording import Decoded, Recording, cut_bgra, read_boxed_masks, read_frames
from mouselift.data.segments import Split, split_blocks
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Similarity

logger = logging.getLogger(__name__)
Write: TypeAlias = Callable[["SampleWork", Mapping[int, str], MaskStore | None], Iterator[int]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What came out.

    Attributes:
        num_train: Samples.
        num_val: Samples.
        samples: Names of all sample folders.
        dropped: Instants that could not be used, and why.
        record: What `dataset.json` holds.
    """

    num_train: int
    num_val: int
    samples: tuple[str, ...]
    dropped: dict[int, str]
    record: dict[str, Any] = field(repr=False)


def prepare(
    recording: Recording,
    config: PrepareConfig,
    out: Path,
    *,
    look: Look | None = None,
    write: Write | None = None,
    progress: bool = True,
) -> Prepared:
    """Write a dataset.

    Samples that are there already are left as they are, so a run that was cut off goes on where it stopped; the list
    files and `dataset.json` are written last.

    Args:
        recording: From `open_recording`, with a calibration and masks.
        config: How.
        out: The dataset folder; made when missing.
        look: Surveys instead of this process (`mouselift.spread`).
        write: Writes samples instead of this process.
        progress: Show bars.

    Raises:
        InputError: The recording cannot be used, or the folder holds samples that were made otherwise.
    """
    _require_place(recording, out)
    store = None
    if write is None:
        store = MaskStore(next(place for place in (out, *out.absolute().parents) if place.is_dir()))
    planned = make_plan(recording, config, store, look=look, progress=progress)
    fingerprint = _fingerprint(recording, config, planned)
    split = _split(recording, config, planned)
    listed = [i for i, train, val in zip(planned.usable, split.train, split.val, strict=True) if train or val]
    names = {i: sample_folder_name(k) for k, i in enumerate(listed)}  # no picture is made for the gaps
    _require_own_lists(out, names.values())
    missing = [i for i in listed if not _is_finished(out / names[i], fingerprint)]
    work = SampleWork(
        recording=recording, planned=planned, size_px=config.size_px, out=out.absolute(), fingerprint=fingerprint
    )
    with tqdm(
        total=len(names),
        initial=len(names) - len(missing),
        desc="crop",
        unit="sample",
        disable=None if progress else True,  # None: not where nobody looks
    ) as bar:
        for done in (write or write_samples)(work, {i: names[i] for i in missing}, store):
            bar.update(done)
    return _finish(recording, config, planned, split, out, names, fingerprint)


def _split(recording: Recording, config: PrepareConfig, planned: Plan) -> Split:
    """Of the usable instants."""
    gap = round(config.gap_s * (config.fps or recording.fps or 1.0))
    return split_blocks(planned.survey.instants[list(planned.usable)], planned.cuts, config.val_share, gap)


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleWork:
    """What samples are made from; can be sent to another process that sees the same files.

    Attributes:
        recording: From `open_recording`.
        planned: From `make_plan`.
        size_px: Of the pictures.
        out: The dataset folder.
        fingerprint: Of everything that pixels and cameras depend on.
    """

    recording: Recording
    planned: Plan
    size_px: int
    out: Path
    fingerprint: str


def write_samples(work: SampleWork, names: Mapping[int, str], store: MaskStore | None) -> Iterator[int]:
    """Make samples one after the other.

    Args:
        work: What they are made from.
        names: Index into the survey's instants -> name of the sample's folder, increasing.
        store: Their masks; read from the recording when not given.

    Yields:
        1 for each sample, once it is on disk.

    Raises:
        InputError: A frame cannot be read, or the disk fails.
    """
    planned = work.planned
    instants = [int(planned.survey.instants[i]) for i in names]
    frames = read_frames(work.recording, instants)
    masks = _masks(work, instants) if store is None else (store.get(instant) for instant in instants)
    with ThreadPoolExecutor() as pool:
        for (i, name), (instant, row), boxes in zip(names.items(), frames, masks, strict=True):
            centre = torch.from_numpy(planned.centres_mm[i])
            virtual = virtual_cameras(planned.rig, centre, planned.fov_deg, work.size_px)
            ordered, maps = [row[k] for k in planned.rig.order], crop_maps(planned.rig.lenses, virtual)
            pictures = list(pool.map(_picture, ordered, boxes, maps))
            scene = scene_from_z_up(planned.scale, centre)
            write_sample_pictures(
                work.out / name,
                pictures,
                virtual.transformed(scene),
                sample_id=name,
                frame_index=instant,
                scene_from_world=scene @ planned.rig.z_up_from_world,
                extra={"made_from_sha256": work.fingerprint, "segment": _segment(planned, i)},
            )
            yield 1


def _masks(work: SampleWork, instants: Sequence[int]) -> Iterator[list[BoxedMask]]:
    for _, row in read_boxed_masks(work.recording, instants):
        yield [row[k] for k in work.planned.rig.order]


def scene_from_z_up(scale: float, centre: Float[Tensor, "3"]) -> Similarity:
    """The animal's centre goes to the origin, lengths are scaled, directions stay."""
    return Similarity(
        scale=torch.tensor(scale, dtype=torch.float64),
        rotation=torch.eye(3, dtype=torch.float64),
        translation=-scale * centre.double(),
    )


def _picture(frame: Decoded, mask: BoxedMask, crop: CropMap) -> bytes:
    needed, pixels = what_is_needed(crop, mask), None
    if needed is not None:
        pixels, window = cut_bgra(frame, needed.window)
        needed = Needed(cells=needed.cells, window=window)
        pixels[..., 3] = mask.within(window)
    return encode_png_bgra(crop_part(crop, needed, pixels))


def _segment(planned: Plan, index: int) -> int:
    return int(np.searchsorted(planned.cuts, planned.survey.instants[index], side="right"))


def _fingerprint(recording: Recording, config: PrepareConfig, planned: Plan) -> str:
    """Of everything that a sample's pixels and cameras depend on."""
    content = {
        "config": asdict(config),
        "calibration": [[c.K.tolist(), c.w2c.tolist(), _lens(c), c.names] for c in planned.rig.cameras],
        "footage": [[view.name, view.frames.num_frames, view.frames.size] for view in recording.views],
        "scale": planned.scale,
        "fov_deg": planned.fov_deg,
    }
    return fingerprint_of(content)


def _lens(camera: Cameras) -> list[float] | None:
    return None if camera.distortion is None else camera.distortion.flatten().tolist()


def _require_place(recording: Recording, out: Path) -> None:
    """Before hours are spent."""
    place = next(place for place in (out, *out.absolute().parents) if os.path.exists(place))  # never raises
    if not place.is_dir():
        raise InputError(f"{place}: expected a folder for the dataset, found a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{place}: expected a folder that can be written to, found one that cannot")
    if out.resolve() == recording.root.resolve():
        raise InputError(f"{out}: expected another folder than the recording's own")


def _require_own_lists(out: Path, names: Collection[str]) -> None:
    for file in (out / name for name in SPLIT_FILES.values()):
        others = set(file.read_text().split()) - set(names) if file.exists() else set()
        if others:
            raise InputError(
                f"{file}: expected samples of this recording and configuration, found {min(others)}, which is none; "
                "use another folder"
            )


def _is_finished(folder: Path, fingerprint: str) -> bool:
    file = folder / CAMERA_FILE
    try:
        found = json.loads(file.read_text()).get("made_from_sha256")
    except FileNotFoundError:
        return False
    except (ValueError, AttributeError, OSError) as error:
        raise InputError(f"{file}: expected a sample's cameras, found: {error}; delete the sample's folder") from None
    if found != fingerprint:
        raise InputError(
            f"{file}: expected a sample of this recording and configuration ({fingerprint}), found {found}; "
            "use another folder"
        )
    return True


def _finish(
    recording: Recording,
    config: PrepareConfig,
    planned: Plan,
    split: Split,
    out: Path,
    names: dict[int, str],
    fingerprint: str,
) -> Prepared:
    survey, samples = planned.survey, list(names.values())
    splits = {
        "train": [names[i] for i, used in zip(planned.usable, split.train, strict=True) if used],
        "val": [names[i] for i, used in zip(planned.usable, split.val, strict=True) if used],
    }
    dropped = {int(survey.instants[i]): survey.problems[i] for i in range(len(survey.instants)) if survey.problems[i]}
    clipped = int((survey.reaches[list(planned.usable)] > np.tan(np.deg2rad(planned.fov_deg / 2))).sum())
    record: dict[str, Any] = {
        "made_by": f"mouselift prepare {mouselift.__version__}",
        "recording": recording.root.name,
        "layout": recording.layout,
        "calibration": None if recording.calibration is None else recording.calibration.source.name,
        "config": asdict(config),
        "made_from_sha256": fingerprint,
        "scene_units_per_mm": planned.scale,
        "fov_deg": planned.fov_deg,
        "up_in_the_calibrations_world": planned.rig.up_world.tolist(),
        "view_names": [name for camera in planned.rig.cameras for name in camera.names],
        "cuts": list(planned.cuts),
        "dropped": {str(instant): why for instant, why in dropped.items()},
        "samples_whose_silhouette_leaves_the_picture": clipped,
        "hull_volume_ml": _spread(survey.volumes_ml[list(planned.usable)]),
    }
    remove_leftovers(out, [*samples, *SPLIT_FILES.values(), DATASET_FILE])
    write_dataset(out, splits, record)
    logger.info("%d training and %d validation samples in %s", len(splits["train"]), len(splits["val"]), out)
    return Prepared(
        num_train=len(splits["train"]),
        num_val=len(splits["val"]),
        samples=tuple(samples),
        dropped=dropped,
        record=record,
    )


def _spread(values: np.ndarray) -> dict[str, float]:
    low, middle, high = np.percentile(values, [5, 50, 95]).round(3).tolist()
    return {"5 %": low, "median": middle, "95 %": high}
