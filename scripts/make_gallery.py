"""Reconstruct real pictures and lay the results out in one sheet: what docs/results/real.png shows.

    python scripts/make_gallery.py --data ../shared/data --out docs/results/real.png

The frames come from two public recordings that are not part of this repository: `sleap_anipose_mouse4cam` (talmolab/
sleap-anipose, GPL-3.0; four infra-red cameras) and `dlc_openfield` (DeepLabCut, LGPL-3.0; one camera from above). Where
a box is used, as a user would draw one, it is taken from the recording's own 2D keypoints.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import h5py
import numpy as np
import torch
import tyro

from mouselift.data.picture import Picture
from mouselift.errors import InputError
from mouselift.export.picture import contact_sheet
from mouselift.geometry import Cameras
from mouselift.geometry.rigs import MOUSE_FOV_DEG, facing_azimuth_deg, orbit
from mouselift.reconstruct import ReconstructConfig, Reconstruction, reconstruct
from mouselift.render import render

TURNS_DEG = (45, 90, 135, 180, 225, 270, 315)
VIEW_PX = 256
BOX_MARGIN = 0.45  # of the keypoints' extent: ears, tail and fur reach beyond them
SLEAP = "sleap_anipose_mouse4cam"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One frame of one recording."""

    title: str
    video: str
    frame: int
    tracks: str | None = None


CASES = (
    *(
        Case(
            title=f"infra-red, {view} camera",
            video=f"{SLEAP}/{view}/minimal_{view}.mp4",
            frame=60,
            tracks=f"{SLEAP}/{view}/minimal_{view}_proofread.analysis.h5",
        )
        for view in ("side", "back", "mid", "top")
    ),
    *(
        Case(title=f"open field, frame {frame}", video="dlc_openfield/m3v1mp4.mp4", frame=frame)
        for frame in (300, 1100)
    ),
)


def make_gallery(
    data: Path,
    out: Path = Path("docs/results/real.png"),
    unseen: Literal["body", "generator"] = "body",
    seed: int = 0,
) -> None:
    """Write the sheet.

    Args:
        data: Folder with both recordings.
        out: The picture.
        unseen: Where the sides that a picture does not show come from.
        seed: Of the reconstruction.
    """
    rows = []
    for case in CASES:
        picture = Picture(image=read_frame(data / case.video, case.frame), mask=None, source=data / case.video)
        box = None if case.tracks is None else box_of(data / case.tracks, case.frame, picture.image.shape)
        result = reconstruct(picture, box=box, config=ReconstructConfig(unseen=unseen, seed=seed))
        rows.append(row_of(case, result))
    contact_sheet(rows, out)


def read_frame(path: Path, index: int) -> torch.Tensor:
    """One frame of a video as (3, H, W) in [0, 1], found by decoding from the start."""
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == index:
                return torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).float() / 255
    raise InputError(f"{path}: expected a frame {index}, found fewer")


def box_of(path: Path, frame: int, shape: torch.Size) -> tuple[int, int, int, int]:
    """A box around the keypoints of one frame, with a margin, inside the picture."""
    with h5py.File(path) as file:
        points = np.asarray(file["tracks"])[0, :, :, frame]
    low, high = np.nanmin(points, axis=1), np.nanmax(points, axis=1)
    margin = BOX_MARGIN * float((high - low).max())
    left, top = np.maximum(low - margin, 0).astype(int).tolist()
    right, bottom = np.minimum(high + margin, [shape[-1], shape[-2]]).astype(int).tolist()
    return left, top, right, bottom


def row_of(case: Case, result: Reconstruction) -> list[tuple[str, torch.Tensor]]:
    """The framed input, the Gaussians from the same camera, then all around."""
    given = result.context[:1].over(torch.ones(3))
    same = given.cameras.resized(VIEW_PX, VIEW_PX)
    azimuth = float(facing_azimuth_deg(given.cameras)[0])
    around = orbit([azimuth + turn for turn in TURNS_DEG], 20.0, fov_deg=MOUSE_FOV_DEG, size_px=VIEW_PX)
    cameras = Cameras.cat([Cameras(K=same.K, w2c=same.w2c, width=VIEW_PX, height=VIEW_PX), around])
    images = render(result.gaussians, cameras).image.clamp(0, 1)
    elevation = result.settings["elevation_deg"]
    titles = [f"same camera ({elevation:.0f} deg)", *(f"turned by {turn} deg" for turn in TURNS_DEG)]
    return [(case.title, given.images[0]), *zip(titles, images, strict=True)]


if __name__ == "__main__":
    tyro.cli(make_gallery)
