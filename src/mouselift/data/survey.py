"""A first pass over a recording's masks: where the animal is, how far it reaches, and which instants are unusable."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor

from mouselift.data.boxed import BoxedMask, MaskStore, PixelWindow, boxed
from mouselift.data.subject import locate, measure_silhouettes, triangulate
from mouselift.geometry import Cameras, pixel_centres

NUM_WITNESSES = 5
ROUGH_STEP_PX = 4  # both ways: the quick estimate looks at so many pixels less
SURVEY_WIDTH_PX = 192  # masks are surveyed at this width: 1.1 mm a pixel on the usual rig
SHOWS = 0.1  # of a survey's pixel: the tip of a tail fills no half of one, and must be in the picture all the same
MAX_CUT_SHARE = 0.04  # of a side, cut off so that it is a whole multiple of the survey's: that is many times faster


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """What the masks of a recording say, instant by instant.

    Attributes:
        instants: Every instant that was looked at, increasing.
        rough_mm: Point nearest to the rays through the masks' centroids; NaN where fewer than two masks show anything.
        chosen: The instants that shall become samples; the fields below are filled for them only.
        centres_mm: Centre of the visual hull, NaN where there is none.
        volumes_ml: Of the visual hull.
        reaches: Tangent of the largest angle, at any camera, between the hull's centre and its silhouette.
        problems: Why an instant cannot be used; empty when it can.
        evidence: Masks of a few usable instants by their numbers, at the survey's size, to judge the cameras by.
    """

    instants: Int64[np.ndarray, "t"]
    rough_mm: Float64[np.ndarray, "t 3"]
    chosen: Bool[np.ndarray, "t"]
    centres_mm: Float64[np.ndarray, "t 3"]
    volumes_ml: Float64[np.ndarray, "t"]
    reaches: Float64[np.ndarray, "t"]
    problems: tuple[str, ...]
    evidence: dict[int, Float[Tensor, "v 1 h w"]]


class Surveyor:
    """Looks at the masks of one instant after the other; holds what depends on the rig only."""

    def __init__(self, cameras: Sequence[Cameras]) -> None:
        """Prepare.

        Args:
            cameras: (1,) each, in the world (mm); their sizes are those of the masks and may differ.
        """
        width, height = min(camera.width for camera in cameras), min(camera.height for camera in cameras)
        factor = max(1, round(width / SURVEY_WIDTH_PX))
        width, height = width // factor, height // factor
        self._used = [(_used(camera.width, width), _used(camera.height, height)) for camera in cameras]
        small = [
            camera.cropped(0, 0, right, bottom).resized(width, height)
            for camera, (right, bottom) in zip(cameras, self._used, strict=True)
        ]
        self.names = tuple(name for camera in cameras for name in camera.names) or tuple(map(str, range(len(small))))
        self.cameras = joined(small)
        self._directions = _pixel_directions(self.cameras)

    def shrink(self, masks: Sequence[UInt8[np.ndarray, "_ _"]]) -> Float[Tensor, "v 1 h w"]:
        """Masks of all views at the survey's size, in [0, 1]."""
        return self.shrink_boxed([boxed(mask) for mask in masks])

    def shrink_boxed(self, masks: Sequence[BoxedMask]) -> Float[Tensor, "v 1 h w"]:
        """As `shrink`: only the survey's pixels that the box touches are averaged."""
        width, height = self.cameras.width, self.cameras.height
        small = np.zeros((len(masks), height, width), np.uint8)
        for mask, (right, bottom), result in zip(masks, self._used, small, strict=True):
            across, down = right // width, bottom // height
            window = mask.window
            if (across * width, down * height) != (right, bottom):
                whole = mask.within(PixelWindow(0, 0, right, bottom))
                cv2.resize(whole, (width, height), result, interpolation=cv2.INTER_AREA)
                continue
            left, top = window.left // across, window.top // down
            end, low = min(-(-window.right // across), width), min(-(-window.bottom // down), height)
            if end > left and low > top:
                touched = mask.within(PixelWindow(left * across, top * down, end * across, low * down))
                size = (end - left, low - top)
                result[top:low, left:end] = cv2.resize(touched, size, interpolation=cv2.INTER_AREA)
        return torch.from_numpy(small)[:, None].float() / 255

    def rough_centre(self, masks: Sequence[BoxedMask]) -> Float[Tensor, "3"]:
        """The quick estimate: centroids of every few pixels of the masks, triangulated."""
        centroids = torch.full((len(masks), 2), torch.nan, dtype=torch.float64)
        for v, (mask, (right, bottom)) in enumerate(zip(masks, self._used, strict=True)):
            moments = cv2.moments(np.ascontiguousarray(mask.pixels[::ROUGH_STEP_PX, ::ROUGH_STEP_PX]))
            if moments["m00"] > 0:
                column, row = (moments[key] / moments["m00"] * ROUGH_STEP_PX + 0.5 for key in ("m10", "m01"))
                centroids[v, 0] = (mask.window.left + column) * self.cameras.width / right
                centroids[v, 1] = (mask.window.top + row) * self.cameras.height / bottom
        return triangulate(centroids, self.cameras)

    def look(self, masks: Float[Tensor, "v 1 h w"], row: "_Row") -> None:
        """Fill in centre, volume and reach, or the problem."""
        found = measure_silhouettes(masks)
        empty = [name for name, area in zip(self.names, found.areas.tolist(), strict=True) if area == 0]
        if empty:
            row.problem = f"empty mask of {', '.join(empty)}"
            return
        subject = locate(masks, self.cameras, found)
        if subject is None:
            row.problem = "the silhouettes have no volume in common"
            return
        row.centre, row.volume_ml = subject.centre.numpy(), subject.volume_ml
        row.reach = self.reach(masks, subject.centre)

    def reach(self, masks: Float[Tensor, "v 1 h w"], centre: Float[Tensor, "3"]) -> float:
        """Tangent of the largest angle between the centre and any silhouette."""
        towards = torch.nn.functional.normalize(centre - self.cameras.centres, dim=-1)
        views, rows, columns = (masks[:, 0] > SHOWS).nonzero(as_tuple=True)
        cosines = (self._directions[views, rows, columns] * towards.float()[views]).sum(-1)
        cosines = cosines[cosines.isfinite()]
        smallest = float(cosines.min()) if len(cosines) else 1.0
        return float(np.sqrt(max(1 - smallest**2, 0)) / max(smallest, 1e-3))


def survey_masks(
    instants: Iterator[tuple[int, Sequence[BoxedMask]]],
    chosen: Collection[int],
    surveyor: Surveyor,
    store: MaskStore | None = None,
    witnesses: Collection[int] | None = None,
) -> Survey:
    """Look at every instant once.

    Args:
        instants: Number and masks of all views.
        chosen: The instants that shall become samples.
        surveyor: Made for the rig.
        store: Gets the masks of those of them that can be used.
        witnesses: Those among them whose masks become evidence; a few spread evenly when not given.

    Raises:
        InputError: Masks cannot be read or kept.
    """
    wanted, rows, evidence = frozenset(chosen), [], {}
    witnesses = choose_witnesses(chosen) if witnesses is None else witnesses
    for index, full in instants:
        row = _Row(instant=index, rough=surveyor.rough_centre(full), chosen=index in wanted)
        if row.chosen:
            masks = surveyor.shrink_boxed(full)
            surveyor.look(masks, row)
            if store is not None and not row.problem:
                store.put(index, full)
            if index in witnesses and not row.problem:
                evidence[index] = masks
        rows.append(row)
    return Survey(
        instants=np.array([row.instant for row in rows], np.int64),
        rough_mm=np.stack([row.rough.numpy() for row in rows]),
        chosen=np.array([row.chosen for row in rows], bool),
        centres_mm=np.stack([row.centre for row in rows]),
        volumes_ml=np.array([row.volume_ml for row in rows], np.float64),
        reaches=np.array([row.reach for row in rows], np.float64),
        problems=tuple(row.problem for row in rows),
        evidence=evidence,
    )


def choose_witnesses(chosen: Collection[int]) -> frozenset[int]:
    """A few of the chosen instants, spread evenly."""
    ordered = sorted(chosen)
    return frozenset(ordered[k] for k in np.linspace(0, len(ordered) - 1, NUM_WITNESSES).round().astype(int))


def join_surveys(parts: Sequence[Survey]) -> Survey:
    """The survey of stretches that follow each other, as if they had been looked at in one pass."""
    return Survey(
        instants=np.concatenate([part.instants for part in parts]),
        rough_mm=np.concatenate([part.rough_mm for part in parts]),
        chosen=np.concatenate([part.chosen for part in parts]),
        centres_mm=np.concatenate([part.centres_mm for part in parts]),
        volumes_ml=np.concatenate([part.volumes_ml for part in parts]),
        reaches=np.concatenate([part.reaches for part in parts]),
        problems=tuple(problem for part in parts for problem in part.problems),
        evidence={instant: masks for part in parts for instant, masks in part.evidence.items()},
    )


@dataclass(kw_only=True)
class _Row:
    instant: int
    rough: Float[Tensor, "3"]
    chosen: bool
    centre: Float64[np.ndarray, "3"] = field(default_factory=lambda: np.full(3, np.nan))
    volume_ml: float = np.nan
    reach: float = np.nan
    problem: str = ""


def joined(cameras: Sequence[Cameras]) -> Cameras:
    """One batch of cameras of one size, float64, with distortion when any has it."""
    none = torch.zeros(1, 5, dtype=torch.float64)
    pinhole = all(camera.distortion is None for camera in cameras)
    return Cameras(
        K=torch.cat([c.K.double() for c in cameras]),
        w2c=torch.cat([c.w2c.double() for c in cameras]),
        width=cameras[0].width,
        height=cameras[0].height,
        distortion=None
        if pinhole
        else torch.cat([none if c.distortion is None else c.distortion.double() for c in cameras]),
        names=tuple(name for c in cameras for name in c.names),
    )


def _used(side_px: int, survey_px: int) -> int:
    """How much of a picture's side is surveyed: a whole multiple of the survey's side where that loses little."""
    whole = side_px // survey_px * survey_px
    return whole if side_px - whole <= MAX_CUT_SHARE * side_px else side_px


def _pixel_directions(cameras: Cameras) -> Float[Tensor, "v h w 3"]:
    """Unit directions of the rays through all pixels, lens included; NaN where it does not see."""
    pixels = pixel_centres(cameras.height, cameras.width, cameras.K).flatten(0, 1)
    ends = cameras.unproject(pixels.expand(len(cameras), -1, 2), torch.ones(len(cameras), len(pixels)).double())
    directions = torch.nn.functional.normalize(ends - cameras.centres[:, None], dim=-1)
    return directions.reshape(len(cameras), cameras.height, cameras.width, 3).float()
