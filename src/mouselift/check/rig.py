"""What the cameras of a rig say by themselves: where they stand about the subject, and how they see it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.check.report import Findings, Shown, Table
from mouselift.export.rig_plot import rig_plot
from mouselift.geometry import Cameras


@dataclass(frozen=True, kw_only=True)
class CameraFigures:
    """One camera about the subject.

    Attributes:
        name: Of the camera.
        azimuth_deg: Counter-clockwise about +Z from +X, [0, 360).
        gap_deg: To the next camera counter-clockwise.
        elevation_deg: Above the horizontal plane.
        distance: From the subject, world units.
        focal_px: Horizontal focal length.
        fov_deg: Horizontal field of view.
        off_axis_deg: Between the optical axis and the subject.
    """

    name: str
    azimuth_deg: float
    gap_deg: float
    elevation_deg: float
    distance: float
    focal_px: float
    fov_deg: float
    off_axis_deg: float


def camera_figures(cameras: Sequence[Cameras], centre: Float[Tensor, "3"]) -> list[CameraFigures]:
    """The figures of every camera.

    Args:
        cameras: (1,) each, in a world whose +Z is up.
        centre: Of the subject.
    """
    offsets = torch.cat([camera.centres.double() for camera in cameras]) - centre.double()
    forward = torch.cat([camera.w2c[..., 2, :3].double() for camera in cameras])
    distances = offsets.norm(dim=-1)
    azimuths = torch.rad2deg(torch.atan2(offsets[:, 1], offsets[:, 0])) % 360
    elevations = torch.rad2deg(torch.asin((offsets[:, 2] / distances).clamp(-1, 1)))
    cosines = -(offsets * forward).sum(-1) / distances
    off_axis = torch.rad2deg(torch.acos(cosines.clamp(-1, 1)))
    gaps = (azimuths[None] - azimuths[:, None]) % 360
    gaps.fill_diagonal_(360.0)
    return [
        CameraFigures(
            name=camera.names[0] if camera.names else f"{v}",
            azimuth_deg=float(azimuths[v]),
            gap_deg=float(gaps[v].min()),
            elevation_deg=float(elevations[v]),
            distance=float(distances[v]),
            focal_px=float(camera.K[0, 0, 0]),
            fov_deg=float(camera.fov_deg[0, 0]),
            off_axis_deg=float(off_axis[v]),
        )
        for v, camera in enumerate(cameras)
    ]


def add_rig(
    findings: Findings,
    cameras: Sequence[Cameras],
    centre: Float[Tensor, "3"],
    *,
    about: str,
    unit: str = "mm",
    track: Float[Tensor, "t 3"] | None = None,
) -> None:
    """Figures, table, terminal lines and picture of a rig.

    Args:
        findings: Added to.
        cameras: (1,) each, in a world whose +Z is up.
        centre: What azimuths and distances are about.
        about: What that is, in words.
        unit: Of the world.
        track: Where the subject was.
    """
    rows = camera_figures(cameras, centre)
    mean = sum(row.distance for row in rows) / len(rows)
    digits = 0 if mean > 50 else 2
    findings.figures["rig"] = {
        "about": about,
        "unit": unit,
        "mean_distance": mean,
        "cameras": [asdict(row) for row in rows],
    }
    findings.lines.append(f"rig          {len(rows)} cameras, {mean:.{digits}f} {unit} from {about} in the mean")
    findings.lines += [
        f"camera {row.name:<5} azimuth {row.azimuth_deg:5.0f}°  elevation {row.elevation_deg:+4.0f}°  "
        f"distance {row.distance:.{digits}f} {unit}  field of view {row.fov_deg:.1f}°"
        for row in rows
    ]
    findings.tables.append(
        Table(
            title="Cameras",
            intro=f"Seen from {about}. Azimuth counter-clockwise about +Z, from +X; the gap is to the next camera.",
            header=(
                "camera",
                "azimuth",
                "gap",
                "elevation",
                f"distance ({unit})",
                "focal length (px)",
                "field of view",
                "off its axis",
            ),
            rows=tuple(
                (
                    row.name,
                    f"{row.azimuth_deg:.0f}°",
                    f"{row.gap_deg:.0f}°",
                    f"{row.elevation_deg:+.0f}°",
                    f"{row.distance:.{digits}f}",
                    f"{row.focal_px:.1f}",
                    f"{row.fov_deg:.1f}°",
                    f"{row.off_axis_deg:.1f}°",
                )
                for row in rows
            ),
        )
    )
    caption = f"The rig from above and from the side; azimuths, elevations and gaps about {about}."
    findings.rig = Shown(pixels=rig_plot(cameras, centre, track=track, unit=unit), caption=caption)
