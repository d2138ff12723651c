"""Make a dataset of synthetic mice on disk."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from mouselift.data.layout import sample_folder_name, write_dataset, write_sample
from mouselift.data.progress import fingerprint_of, is_finished
from mouselift.errors import InputError
from mouselift.export.dataset import write_contact_sheet
from mouselift.synth import SynthConfig, synthesize_sample
from mouselift.synth.scene import SCENE_PER_MM

logger = logging.getLogger(__name__)


def synthesize_dataset(
    config: SynthConfig,
    out: Path,
    num: int,
    first_seed: int = 0,
    workers: int = 1,
    *,
    val_share: float = 0.05,
) -> None:
    """Write `num` samples of seeds first_seed, first_seed + 1, ... in the dataset layout.

    Finished samples are left as they are, so a run that was cut off goes on where it stopped. The same configuration
    and seed give the same bytes, whatever the number of workers. The last samples are the validation split.

    Args:
        config: What the samples are drawn from.
        out: The dataset folder; made when missing.
        num: How many samples.
        first_seed: Seed of the first one.
        workers: Processes; each renders with one thread when there are several.
        val_share: Share of the samples in the validation split, at least one sample of two or more.

    Raises:
        InputError: A count is out of range, or the folder holds samples of another configuration.
    """
    if num < 1 or workers < 1 or first_seed < 0 or not 0 <= val_share <= 1:
        raise InputError(
            "expected num and workers >= 1, first_seed >= 0 and val_share in [0, 1], "
            f"found {num=} {workers=} {first_seed=} {val_share=}"
        )
    out.mkdir(parents=True, exist_ok=True)
    fingerprint = fingerprint_of(asdict(config))
    names = [sample_folder_name(i) for i in range(num)]
    missing = [
        i for i, name in enumerate(names) if not is_finished(out / name, fingerprint, frame_index=first_seed + i)
    ]
    logger.info("%d of %d samples to make in %s", len(missing), num, out)
    make = partial(_make_one, config, out, first_seed, fingerprint)
    with tqdm(total=num, initial=num - len(missing), desc="synth", unit="sample") as bar:
        for _ in _run(make, missing, workers):
            bar.update()
    num_val = max(round(val_share * num), 1) if num > 1 and val_share > 0 else 0
    record = {
        "made_by": "mouselift synth",
        "config": asdict(config),
        "config_sha256": fingerprint,
        "first_seed": first_seed,
        "scene_units_per_mm": SCENE_PER_MM,
    }
    write_dataset(out, {"train": names[: num - num_val], "val": names[num - num_val :]}, record)
    write_contact_sheet(out, names)


def _run(make: partial[None], indices: Sequence[int], workers: int) -> Iterator[None]:
    if workers == 1:
        yield from map(make, indices)
        return
    # spawn: a forked child would inherit the renderer's thread pool in an unknown state
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from pool.map(make, indices)


def _make_one(config: SynthConfig, out: Path, first_seed: int, fingerprint: str, index: int) -> None:
    sample = synthesize_sample(config, first_seed + index)
    name = sample_folder_name(index)
    extra = {
        "synth": dict(sample.attributes),
        "config_sha256": fingerprint,
        "body_pose": {
            "axis_angle_rad": Rotation.from_matrix(sample.rotations).as_rotvec().round(5).tolist(),
            "build": asdict(sample.build),
        },
        "keypoints_scene": sample.keypoints_scene.double().tolist(),
    }
    write_sample(
        out / name,
        sample.views,
        sample_id=name,
        frame_index=first_seed + index,
        scene_from_world=sample.scene_from_world,
        extra=extra,
    )
