"""A recording's samples seen from all sides: fits to the real views, rendered where no camera stood.

The generator learns from views around the animal, and a rig has few cameras. A fit to all of them
(`mouselift.optimise`) shows what they saw from anywhere between them. From where none of them looked it guesses, and
fits that do not even show their own views are left out.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mouselift.atomic import remove_leftovers
from mouselift.data.framing import MIN_SUBJECT_PX, frame_view, subject_px
from mouselift.data.layout import (
    DATASET_FILE,
    SPLIT_FILES,
    Sample,
    list_samples,
    read_sample,
    write_dataset,
    write_sample,
)
from mouselift.data.progress import fingerprint_of, is_finished, write_left_out
from mouselift.data.selection import RIG_PREFIX
from mouselift.errors import InputError
from mouselift.evaluate import WHITE, figures_of, rendered
from mouselift.evaluate.index import FINGERPRINTS
from mouselift.export.dataset import write_contact_sheet
from mouselift.geometry import Views
from mouselift.geometry.rigs import MOUSE_FOV_DEG, MOUSE_RIG_ELEVATION_DEG, facing_azimuth_deg, orbit
from mouselift.optimise import OptimiseConfig, optimise_sample
from mouselift.runtime import resolve_device
from mouselift.synth.scene import photograph

MIN_NUM_VIEWS = 6
MAX_DB = 100


@dataclass(frozen=True, kw_only=True)
class SurroundConfig:
    """How views are added."""

    size_px: int = 128
    """Of all views of the new samples."""
    num_views: int = 8
    """Around the animal, the first one where the first real camera stands."""
    steps: int = 400
    """Of each fit."""
    enough_db: float = 24.0
    """Foreground PSNR that a fit must reach on the views that it was fitted to, in the mean."""
    device: str = "auto"
    """Of the fits."""

    def __post_init__(self) -> None:
        if self.size_px < MIN_SUBJECT_PX or self.num_views < MIN_NUM_VIEWS:
            raise InputError(
                f"expected at least {MIN_SUBJECT_PX} px and {MIN_NUM_VIEWS} views, which the generator learns to make, "
                f"found {self.size_px} and {self.num_views}"
            )
        if not 0 <= self.enough_db <= MAX_DB:
            raise InputError(f"expected enough_db of 0 to {MAX_DB}, found {self.enough_db}")
        OptimiseConfig(steps=self.steps)  # refuses what it would refuse of every sample


@dataclass(frozen=True, kw_only=True)
class Surrounded:
    """What came out: numbers of samples, the mean figure of the fits, and why samples were left out, by name."""

    num_train: int
    num_val: int
    mean_db: float
    left_out: dict[str, str]


def surround(source: Path, out: Path, config: SurroundConfig | None = None, *, progress: bool = True) -> Surrounded:
    """Write a dataset with views from all sides of every sample of another one.

    A new sample has the rendered views, named `ring_0`, ..., and then the real ones, cut to the animal: to the
    generator's training they are free photographs. Splits and names stay. Samples that are there already are left as
    they are, so a run that was cut off goes on; those that cannot be used are listed in `left_out.tsv` with the reason,
    and tried again by the next run.

    Args:
        source: A dataset of calibrated views, as `mouselift prepare` makes it.
        out: The new dataset's folder; made when missing.
        config: How.
        progress: Show a bar.

    Raises:
        InputError: The dataset has views from all sides already, no sample of its training split can be used, or `out`
            holds samples that were made otherwise.
    """
    config = config or SurroundConfig()
    if source.resolve() == out.resolve():
        raise InputError(f"{out}: expected another folder than the dataset itself")
    listed = {split: _listed(source, split) for split in SPLIT_FILES}
    names = [name for split in listed.values() for name in split]
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out, names)
    device = resolve_device(config.device)
    made_from = {key: value for key, value in asdict(config).items() if key != "device"}
    fingerprint = fingerprint_of({"config": made_from, "source": _made_from(source)})
    left_out: dict[str, str] = {}
    reached: list[float] = []
    for name in tqdm(names, desc="surround", unit="sample", disable=None if progress else True):
        if not is_finished(out / name, fingerprint, surrounded_from=name):
            try:
                sample = read_sample(source / name)
                views, found_db = _surrounded(sample, replace(config, device=device))
            except InputError as error:
                left_out[name] = str(error)
                continue
            finally:
                write_left_out(out, left_out)
            write_sample(
                out / name,
                views,
                sample_id=sample.sample_id,
                frame_index=sample.frame_index,
                scene_from_world=sample.scene_from_world,
                extra={
                    **sample.extra,
                    "config_sha256": fingerprint,
                    "surrounded_from": name,
                    "fit_psnr_fg_db": round(found_db, 3),
                },
            )
        reached.append(float(read_sample(out / name, [0]).extra["fit_psnr_fg_db"]))
    used = {split: [name for name in its if name not in left_out] for split, its in listed.items()}
    if not used["train"]:
        why = next(iter(left_out.values()))
        raise InputError(f"{source}: expected samples that can be used, found none to train on; {why}")
    record = {"made_by": "mouselift surround", "config": asdict(config), "config_sha256": fingerprint}
    write_dataset(out, used, {**record, "source": source.name, "left_out": len(left_out)})
    write_contact_sheet(out, [name for its in used.values() for name in its])
    return Surrounded(
        num_train=len(used["train"]),
        num_val=len(used["val"]),
        mean_db=sum(reached) / len(reached),
        left_out=left_out,
    )


def _listed(source: Path, split: str) -> list[str]:
    """Names of a split's samples; only the training split must have any."""
    file = source / SPLIT_FILES[split]
    if split != "train" and not (file.is_file() and file.read_text().strip()):
        return []
    return [folder.name for folder in list_samples(source, split)]


def _made_from(source: Path) -> dict[str, Any]:
    """What a dataset says of its own making; nothing for one that was made elsewhere."""
    file = source / DATASET_FILE
    record = json.loads(file.read_text()) if file.is_file() else {}
    return {key: record[key] for key in FINGERPRINTS if key in record}


def _surrounded(sample: Sample, config: SurroundConfig) -> tuple[Views, float]:
    """Views from all sides, the real ones after them, and with how many dB the fit shows those.

    Raises:
        InputError: The views cannot be fitted, or the fit does not show them.
    """
    views = sample.views
    if any(name.startswith(RIG_PREFIX) for name in views.cameras.names):
        raise InputError(f"sample {sample.sample_id}: expected views of a recording, found views from all sides")
    shown = [i for i, mask in enumerate(views.masks) if subject_px(mask) >= MIN_SUBJECT_PX]
    fit = optimise_sample(sample, shown, config=OptimiseConfig(steps=config.steps, device=config.device))
    truth = fit.context.over(torch.tensor(WHITE))
    reached = float(figures_of(*rendered(fit.gaussians, truth), truth)["psnr_fg"].nanmean())
    if not reached >= config.enough_db:
        raise InputError(
            f"sample {sample.sample_id}: expected a fit that shows its own views with {config.enough_db:g} dB, found "
            f"{reached:.1f}"
        )
    start = float(facing_azimuth_deg(views.cameras)[0])
    ring = orbit(
        [start + 360.0 * k / config.num_views for k in range(config.num_views)],
        MOUSE_RIG_ELEVATION_DEG,
        fov_deg=MOUSE_FOV_DEG,
        size_px=config.size_px,
        names=[f"{RIG_PREFIX}{k}" for k in range(config.num_views)],
    )
    real = [frame_view(views[[i]], size_px=config.size_px) for i in shown]
    return Views.cat([photograph(fit.gaussians, ring), *real]), reached
