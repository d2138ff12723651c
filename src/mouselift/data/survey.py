"""A first pass over a recording's masks: where the animal is, how far it reaches, and which instants are unusable."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor

from mouselift.data.subject import locate, measure_silhouettes, triangulate
from mouselift.geometry import Cameras, pixel_centres

NUM_WITNESSES = 5
SURVEY_WIDTH_PX = 192  # masks are surveyed at this width: 1.1 mm a pixel on the usual rig


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """What the masks of a recording say, instant by instant.

    Attributes:
        instants: Every instant that was looked at, increasing.
        rough_mm: Point nearest to the rays through the masks' centroids; NaN where fewer than two masks show anything.
        chosen: The instants that shall become samples; the fields below are filled for them only.
        centres_mm: Centre of the visual hull, NaN where there is none.
        volumes_ml: Of the visual hull.
        areas: Share of each picture that the mask covers.
        reaches: Tangent of the largest angle, at any camera, between the hull's centre and its silhouette.
        problems: Why an instant cannot be used; empty when it can.
        evidence: Masks of a few usable instants at the survey's size, to judge the cameras by.
    """

    instants: Int64[np.ndarray, "t"]
    rough_mm: Float64[np.ndarray, "t 3"]
    chosen: Bool[np.ndarray, "t"]
    centres_mm: Float64[np.ndarray, "t 3"]
    volumes_ml: Float64[np.ndarray, "t"]
    areas: Float64[np.ndarray, "t v"]
    reaches: Float64[np.ndarray, "t"]
    problems: tuple[str, ...]
    evidence: tuple[Float[Tensor, "v 1 h w"], ...]


class Surveyor:
    """Looks at the masks of one instant after the other; holds what depends on the rig only."""

    def __init__(self, cameras: Sequence[Cameras]) -> None:
        """Prepare.

        Args:
            cameras: (1,) each, in the world (mm); their sizes are those of the masks and may differ.
        """
        width = SURVEY_WIDTH_PX
        height = round(width * cameras[0].height / cameras[0].width)
        small = [camera.resized(width, height) for camera in cameras]
        self.names = tuple(name for camera in cameras for name in camera.names) or tuple(map(str, range(len(small))))
        self.cameras = _joined(small)
        self._directions = _pixel_directions(self.cameras)

    def shrink(self, masks: Sequence[UInt8[np.ndarray, "_ _"]]) -> Float[Tensor, "v 1 h w"]:
        """Masks of all views at the survey's size, in [0, 1]."""
        size = (self.cameras.width, self.cameras.height)
        small = [cv2.resize(mask, size, interpolation=cv2.INTER_AREA) for mask in masks]
        return torch.from_numpy(np.stack(small))[:, None].float() / 255

    def rough_centre(self, masks: Float[Tensor, "v 1 h w"]) -> Float[Tensor, "3"]:
        """The quick estimate: the masks' centroids, triangulated."""
        return triangulate(measure_silhouettes(masks).centroids, self.cameras)

    def reach(self, masks: Float[Tensor, "v 1 h w"], centre: Float[Tensor, "3"]) -> float:
        """Tangent of the largest angle between the centre and any silhouette."""
        towards = torch.nn.functional.normalize(centre - self.cameras.centres, dim=-1)
        cosine = torch.einsum("vhwc,vc->vhw", self._directions, towards.float())
        inside = (masks[:, 0] > 0.5) & cosine.isfinite()
        smallest = float(cosine[inside].min()) if bool(inside.any()) else 1.0
        return float(np.sqrt(max(1 - smallest**2, 0)) / max(smallest, 1e-3))


def survey_masks(
    instants: Iterator[tuple[int, Sequence[UInt8[np.ndarray, "_ _"]]]], chosen: Collection[int], surveyor: Surveyor
) -> Survey:
    """Look at every instant once.

    Args:
        instants: Number and masks of all views.
        chosen: The instants that shall become samples.
        surveyor: Made for the rig.
    """
    wanted, rows, evidence = frozenset(chosen), [], []
    witnesses = {sorted(wanted)[k] for k in np.linspace(0, len(wanted) - 1, NUM_WITNESSES).round().astype(int)}
    for index, full in instants:
        masks = surveyor.shrink(full)
        found = measure_silhouettes(masks)
        row = {
            "instant": index,
            "rough": triangulate(found.centroids, surveyor.cameras).numpy(),
            "centre": np.full(3, np.nan),
            "volume": np.nan,
            "areas": found.areas.numpy(),
            "reach": np.nan,
            "problem": "",
        }
        if index in wanted:
            empty = [name for name, area in zip(surveyor.names, found.areas.tolist(), strict=True) if area == 0]
            subject = None if empty else locate(masks, surveyor.cameras, found)
            if empty:
                row["problem"] = f"empty mask of {', '.join(empty)}"
            elif subject is None:
                row["problem"] = "the silhouettes have no volume in common"
            else:
                row.update(
                    centre=subject.centre.numpy(),
                    volume=subject.volume_ml,
                    reach=surveyor.reach(masks, subject.centre),
                )
                if index in witnesses:
                    evidence.append(masks)
        rows.append(row)
    return Survey(
        instants=np.array([row["instant"] for row in rows], np.int64),
        rough_mm=np.stack([row["rough"] for row in rows]),
        chosen=np.array([row["instant"] in wanted for row in rows], bool),
        centres_mm=np.stack([row["centre"] for row in rows]),
        volumes_ml=np.array([row["volume"] for row in rows], np.float64),
        areas=np.stack([row["areas"] for row in rows]),
        reaches=np.array([row["reach"] for row in rows], np.float64),
        problems=tuple(row["problem"] for row in rows),
        evidence=tuple(evidence),
    )


def _joined(cameras: Sequence[Cameras]) -> Cameras:
    """One batch, with distortion when any has it."""
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


def _pixel_directions(cameras: Cameras) -> Float[Tensor, "v h w 3"]:
    """Unit directions of the rays through all pixels, lens included; NaN where it does not see."""
    pixels = pixel_centres(cameras.height, cameras.width, cameras.K).flatten(0, 1)
    ends = cameras.unproject(pixels.expand(len(cameras), -1, 2), torch.ones(len(cameras), len(pixels)).double())
    directions = torch.nn.functional.normalize(ends - cameras.centres[:, None], dim=-1)
    return directions.reshape(len(cameras), cameras.height, cameras.width, 3).float()
