"""What is decided before the first picture is cut out of a recording: instants, centres, scale, field of view."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from mouselift.data.boxed import MaskStore
from mouselift.data.consistency import FEW_RAYS, GOOD_IOU, diagnose, hull_iou
from mouselift.data.recording import Recording, read_boxed_masks, read_masks
from mouselift.data.recording.check import require_sound
from mouselift.data.segments import find_joins, smooth_track
from mouselift.data.subject import MIN_VIEWS
from mouselift.data.survey import Survey, Surveyor, joined, survey_masks
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Similarity
from mouselift.geometry.rigs import FACELIFT_FOV_DEG, RIG_RADIUS, azimuth_elevation_deg, pinhole_K, rig_up, turn_to_z_up

REACH_PERCENTILE = 99.5  # of the instants: one bad mask must not widen the view of a whole dataset
REACH_MARGIN = 1.04
MAX_DROPPED_SHARE = 0.2
MAX_SHIFT = 5  # frames that a video may be late or early and still be named
DIAGNOSED = 2  # instants that a cause is looked for in, the worst ones


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What becomes of a recording."""

    preset: Literal["facelift", "tight"] = "tight"
    """facelift: 50 degrees, what published weights expect. tight: the field of view that just holds the animal with its
    tail, one for the whole dataset."""
    size_px: int = 512
    every: int = 1
    """Use every n-th instant."""
    max_samples: int | None = None
    """At most so many, spread evenly over the recording."""
    first: int = 0
    last: int | None = None
    """Instants to use: first to last, the latter included; None stands for the end."""
    val_share: float = 0.1
    gap_s: float = 0.5
    """Between training and validation samples."""
    smoothing_s: float = 0.02
    """Standard deviation of the Gaussian that smooths the animal's centre in time."""
    joins: tuple[int, ...] = ()
    """Instants at which the recording was joined, besides those that are found."""
    fps: float | None = None
    """Instants a second, where the files do not say."""
    min_hull_iou: float = GOOD_IOU
    """Refuse cameras and masks that do not fit each other: the least overlap of each view's masks with their hull."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.size_px < 16 or (self.max_samples is not None and self.max_samples < 1):
            raise InputError("expected every >= 1, size_px >= 16 and max_samples >= 1")
        if not 0 <= self.val_share < 1 or not 0 <= self.min_hull_iou <= 1:  # "not": so is NaN refused, too
            raise InputError("expected val_share in [0, 1) and min_hull_iou in [0, 1]")
        if not (0 <= self.gap_s < np.inf and 0 <= self.smoothing_s < np.inf and self.first >= 0):
            raise InputError("expected gap_s, smoothing_s and first not negative")
        if self.fps is not None and not 0 < self.fps < np.inf:
            raise InputError(f"expected a positive number of instants a second, found fps = {self.fps}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Rig:
    """The real cameras of a recording in a world whose +Z is up.

    Attributes:
        cameras: (1,) each, with its name and the size of its pictures; mm, in the order of the dataset's slots: by
            azimuth.
        order: Of the recording's views.
        up_world: Up in the calibration's own world.
        z_up_from_world: Rotation, calibration's world to this one.
    """

    cameras: tuple[Cameras, ...]
    order: tuple[int, ...]
    up_world: Float[Tensor, "3"]
    z_up_from_world: Similarity

    @cached_property
    def lenses(self) -> Cameras:
        """(V,) where the cameras stand and what they see, without their image sizes, which may differ."""
        return joined([_unsized(camera) for camera in self.cameras])

    @cached_property
    def centres(self) -> Float[Tensor, "v 3"]:
        """Of projection, mm."""
        return torch.cat([camera.centres for camera in self.cameras])


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """All that is decided before the first picture is cut out.

    Attributes:
        rig: The cameras.
        survey: What the masks say.
        centres_mm: Smoothed, for the instants of `survey`.
        cuts: Instants at which segments begin.
        scale: Scene units per mm.
        fov_deg: Of the virtual cameras.
        usable: Indices into `survey.instants` that become samples.
    """

    rig: Rig
    survey: Survey
    centres_mm: np.ndarray
    cuts: tuple[int, ...]
    scale: float
    fov_deg: float
    usable: tuple[int, ...]


def rig_of(recording: Recording) -> Rig:
    """The cameras of a recording, upright and sorted by azimuth.

    Raises:
        InputError: The recording has no calibration.
    """
    if recording.calibration is None:
        raise InputError(f"{recording.root}: expected a calibration, found none; name one with --calibration")
    sizes = [view.frames.size for view in recording.views]
    raw = recording.calibration.each(sizes)
    up = rig_up(joined([_unsized(camera) for camera in raw]))
    upright = Similarity(
        scale=torch.tensor(1.0, dtype=torch.float64), rotation=turn_to_z_up(up), translation=torch.zeros(3).double()
    )
    turned = [camera.transformed(upright) for camera in raw]
    middle = torch.cat([camera.centres for camera in turned]).mean(0)
    about = Similarity(scale=torch.tensor(1.0).double(), rotation=torch.eye(3).double(), translation=-middle)
    azimuths = [float(azimuth_elevation_deg(camera.transformed(about))[0]) % 360 for camera in turned]
    order = tuple(int(i) for i in np.argsort(azimuths, kind="stable"))
    return Rig(cameras=tuple(turned[i] for i in order), order=order, up_world=up, z_up_from_world=upright)


Look: TypeAlias = Callable[[Recording, Rig, Sequence[int], Collection[int]], Survey]


def make_plan(
    recording: Recording,
    config: PrepareConfig,
    store: MaskStore | None = None,
    *,
    look: Look | None = None,
    progress: bool = True,
) -> Plan:
    """Survey the masks and decide on everything that holds for the whole dataset.

    Args:
        recording: From `open_recording`.
        config: How.
        store: Gets the masks of the usable instants, in the rig's order.
        look: Surveys instead of this process, as `survey_stretch` would.
        progress: Show a bar.

    Raises:
        InputError: The recording does not fit together, has no masks, or too many instants cannot be used.
    """
    require_sound(recording)
    if len(recording.views) < MIN_VIEWS:
        raise InputError(f"{recording.root}: expected at least {MIN_VIEWS} cameras, found {len(recording.views)}")
    rig = rig_of(recording)
    if not recording.has_masks:
        raise InputError(f"{recording.root}: expected masks of every camera, found none; make them: mouselift segment")
    chosen = choose_instants(recording.num_instants, config)
    looked_at = range(chosen[0], chosen[-1] + 1) if _masks_are_videos(recording) else chosen
    surveyor = Surveyor(rig.cameras)
    if look is None:
        survey = survey_stretch(recording, rig, looked_at, chosen, store, progress=progress)
    else:
        survey = look(recording, rig, looked_at, chosen)
    wanted = [i for i in range(len(survey.instants)) if survey.chosen[i]]
    usable = tuple(i for i in wanted if not survey.problems[i])
    if len(usable) < (1 - MAX_DROPPED_SHARE) * len(wanted):
        first = next(i for i in wanted if survey.problems[i])
        raise InputError(
            f"{recording.root}: expected masks that show one animal, found none in {len(wanted) - len(usable)} of "
            f"{len(wanted)} instants; the first is {survey.instants[first]}: {survey.problems[first]}"
        )
    require_consistent(recording, rig, survey, surveyor, config.min_hull_iou)
    cuts = sorted({*config.joins, *(int(survey.instants[i]) for i in find_joins(survey.rough_mm))})
    fps = config.fps or recording.fps or 1.0
    positions = np.searchsorted(survey.instants, cuts)
    centres = smooth_track(survey.centres_mm, survey.instants / fps, positions.tolist(), config.smoothing_s)
    distances = np.linalg.norm(centres[list(usable), None] - rig.centres.numpy(), axis=-1)
    reach = np.percentile(survey.reaches[list(usable)], REACH_PERCENTILE) * REACH_MARGIN
    return Plan(
        rig=rig,
        survey=survey,
        centres_mm=centres,
        cuts=tuple(cuts),
        scale=RIG_RADIUS / float(distances.mean()),
        fov_deg=FACELIFT_FOV_DEG if config.preset == "facelift" else float(np.rad2deg(2 * np.arctan(reach))),
        usable=usable,
    )


def survey_stretch(
    recording: Recording,
    rig: Rig,
    looked_at: Sequence[int],
    chosen: Collection[int],
    store: MaskStore | None = None,
    *,
    witnesses: Collection[int] | None = None,
    progress: bool = False,
) -> Survey:
    """Read the masks of some instants and look at them.

    Args:
        recording: With masks.
        rig: Its cameras.
        looked_at: Instants, increasing.
        chosen: Those among them that shall become samples.
        store: Gets the masks of the usable ones.
        witnesses: As in `survey_masks`.
        progress: Show a bar.
    """
    masks = ((index, [row[i] for i in rig.order]) for index, row in read_boxed_masks(recording, looked_at))
    with tqdm(
        masks, total=len(looked_at), desc="survey", unit="instant", disable=None if progress else True
    ) as bar:  # None: not where nobody looks
        return survey_masks(iter(bar), chosen, Surveyor(rig.cameras), store, witnesses)


def require_consistent(recording: Recording, rig: Rig, survey: Survey, surveyor: Surveyor, min_hull_iou: float) -> None:
    """Refuse a recording whose cameras and masks do not fit each other.

    Raises:
        InputError: With the figure and, when one change explains it, the likely cause.
    """
    overlaps = {instant: hull_iou(masks, surveyor.cameras, FEW_RAYS) for instant, masks in survey.evidence.items()}
    medians = torch.stack([*overlaps.values()]).median(0).values
    worst = int(medians.argmin())
    if float(medians[worst]) >= min_hull_iou:
        return
    last = recording.num_instants - 1
    _, _, shown = max((min(MAX_SHIFT, i, last - i), -float(row.mean()), i) for i, row in overlaps.items())
    telling = sorted(overlaps, key=lambda instant: float(overlaps[instant].mean()))[:DIAGNOSED]
    suspicion = diagnose(
        [survey.evidence[instant] for instant in telling],
        surveyor.cameras,
        neighbouring_masks(recording, rig, surveyor, shown),
    )
    cause = f"likely {suspicion.cause} (that gives {suspicion.iou:.2f})" if suspicion else "see `mouselift check`"
    raise InputError(
        f"{recording.root}: expected masks that overlap their visual hull by {min_hull_iou:.2f} in every view, found "
        f"{float(medians[worst]):.2f} in camera {surveyor.names[worst]}: {cause}"
    )


def neighbouring_masks(
    recording: Recording, rig: Rig, surveyor: Surveyor, instant: int
) -> list[Float[Tensor, "v 1 h w"]]:
    """Masks of consecutive instants about one, in the rig's order, as many on both sides: fewer near the ends.

    Raises:
        InputError: They cannot be read.
    """
    reach = min(MAX_SHIFT, instant, recording.num_instants - 1 - instant)
    rows = read_masks(recording, range(instant - reach, instant + reach + 1))
    return [surveyor.shrink([masks[v] for v in rig.order]) for _, masks in rows]


def choose_instants(num_instants: int, config: PrepareConfig) -> list[int]:
    """Every n-th instant of the wanted stretch, thinned evenly to at most `max_samples`.

    Raises:
        InputError: Nothing remains.
    """
    last = num_instants - 1 if config.last is None else min(config.last, num_instants - 1)
    chosen = list(range(config.first, last + 1, config.every))
    if not chosen:
        raise InputError(f"expected instants from {config.first} to {last}, found none: there are {num_instants}")
    if config.max_samples is not None and len(chosen) > config.max_samples:
        places = np.linspace(0, len(chosen) - 1, config.max_samples).round().astype(int)
        chosen = [chosen[k] for k in places]
    return chosen


def virtual_cameras(rig: Rig, centre: Float[Tensor, "3"], fov_deg: float, size_px: int) -> Cameras:
    """Pinhole cameras where the real ones stand that look at the animal; world, mm."""
    K = pinhole_K(fov_deg, size_px).double()
    return rig.lenses.looking_at(centre, K, size_px)


def _unsized(camera: Cameras) -> Cameras:
    return replace(camera, width=1, height=1)


def _masks_are_videos(recording: Recording) -> bool:
    """A video's frames are decoded one after the other anyway, so that looking at all of them costs little."""
    return all(view.masks is not None and len(view.masks.videos) == len(view.masks.parts) for view in recording.views)
