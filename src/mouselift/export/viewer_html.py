"""A page that shows Gaussians from every side: one file that holds all it needs and asks for nothing.

The page's parts lie in `assets/viewer`: WebGL 2 and no library. (The pages that viser 1.1 exports draw Gaussians in the
right order only when a server delivers them: browsers refuse their sorting thread to pages opened as files. ADR 7, 10.)
"""

import base64
import html
import io
import json
import math
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.export.camera_path import MARGIN
from mouselift.export.extent import aligned, extent_of
from mouselift.export.picture import to_uint8
from mouselift.export.sequence import Sequence4D
from mouselift.export.viewer_pack import Packing, pack, packing_of
from mouselift.geometry import Cameras, Gaussians, Views
from mouselift.geometry.rigs import FACELIFT_FRONT_DEG, MOUSE_FOV_DEG, MOUSE_RIG_ELEVATION_DEG

GREY = 0.5  # behind photographs
THUMBNAIL_PX, THUMBNAIL_QUALITY = 256, 80
LARGEST_PAGE_BYTES = 1 << 30  # of Gaussians; browsers need several times as much memory to open it
SCRIPTS = ("splats.js", "frustums.js", "camera.js", "page.js")


def write_viewer_html(gaussians: Gaussians, path: Path | str, title: str = "MouseLift") -> None:
    """Write a self-contained page with an interactive view of one scene; see `viewer_page`.

    Args:
        gaussians: No batch dimension, scene frame.
        path: The .html file.
        title: Of the browser's window.

    Raises:
        InputError: If the file cannot be written.
    """
    model = Sequence4D(name=title, frames=[gaussians], frame_names=[title])
    write_viewer_page([model], path, title=title)


def write_viewer_page(
    models: Sequence[Sequence4D],
    path: Path | str,
    *,
    title: str = "MouseLift",
    photographs: Views | None = None,
    fps: float = 25.0,
) -> None:
    """Write `viewer_page` to a file.

    Raises:
        InputError: If there is too much to show, or the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(viewer_page(models, title=title, photographs=photographs, fps=fps))


def viewer_page(
    models: Sequence[Sequence4D], *, title: str = "MouseLift", photographs: Views | None = None, fps: float = 25.0
) -> Iterator[str]:
    """A self-contained page with an interactive view of one or several models.

    The first view is that of the input camera's direction, +Z up. Models of about one place and size share the camera's
    target; others are each framed on their own.

    Args:
        models: At least one; stills have one frame.
        title: Of the browser's window.
        photographs: (V,) calibrated views in the frame of the models: drawn as frustums, and to look through.
        fps: Frames a second of the playback.

    Yields:
        The page's text, in pieces.

    Raises:
        InputError: If there is too much to show.
    """
    packings = [packing_of(model.frames) for model in models]
    size = sum(
        packing.bytes_per_gaussian * len(frame)
        for model, packing in zip(models, packings, strict=True)
        for frame in model.frames
    )
    if size > LARGEST_PAGE_BYTES:
        raise InputError(
            f"expected at most {LARGEST_PAGE_BYTES >> 20} MB of Gaussians in a page, found {size >> 20} MB; "
            "show fewer files, or fewer frames with --every"
        )
    filled = {
        "title": html.escape(title),
        "style": _asset("style.css"),
        "scene": json.dumps(_scene(models, packings, photographs, fps)).replace("<", "\\u003c"),  # no tag can end it
        "script": "\n".join(_asset(name) for name in SCRIPTS),
    }
    before, after = (_filled(part, filled) for part in _asset("page.html").split("{{blocks}}"))
    yield before
    for index, (model, packing) in enumerate(zip(models, packings, strict=True)):
        for number, frame in enumerate(model.frames):
            block = base64.b64encode(pack(frame, packing)).decode("ascii")
            yield f'<script id="m{index}f{number}" type="text/plain">{block}</script>\n'
    yield after


def _scene(
    models: Sequence[Sequence4D], packings: Sequence[Packing], photographs: Views | None, fps: float
) -> dict[str, Any]:
    extents = aligned([extent_of(model.frames) for model in models])
    return {
        "distance": MARGIN / math.sin(math.radians(MOUSE_FOV_DEG) / 2),
        "azimuth": math.radians(FACELIFT_FRONT_DEG),
        "elevation": math.radians(MOUSE_RIG_ELEVATION_DEG),
        "fov": math.radians(MOUSE_FOV_DEG),
        "fps": fps,
        "models": [
            {
                "name": model.name,
                "target": extent.centre.tolist(),
                "radius": extent.radius,
                "covarianceUnit": packing.covariance_unit,
                "degree": packing.degree,
                "harmonicUnit": packing.harmonic_unit,
                "frames": [
                    {"name": name, "count": len(frame)}
                    for name, frame in zip(model.frame_names, model.frames, strict=True)
                ],
            }
            for model, packing, extent in zip(models, packings, extents, strict=True)
        ],
        "cameras": [] if photographs is None else _cameras(photographs),
    }


def _cameras(photographs: Views) -> list[dict[str, Any]]:
    cameras: Cameras = photographs.cameras
    names = cameras.names or tuple(str(index) for index in range(len(cameras)))
    images = photographs.over(photographs.images.new_full((3,), GREY)).images
    return [
        {
            "name": names[index],
            "width": cameras.width,
            "height": cameras.height,
            "fx": float(K[0, 0]),
            "fy": float(K[1, 1]),
            "cx": float(K[0, 2]),
            "cy": float(K[1, 2]),
            "skew": float(K[0, 1]),
            "rotation": cameras.w2c[index, :3, :3].flatten().tolist(),
            "centre": cameras.centres[index].tolist(),
            "picture": _data_address(Image.fromarray(to_uint8(images[index]))),
        }
        for index, K in enumerate(cameras.K)
    ]


def _data_address(picture: Image.Image) -> str:
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    encoded = io.BytesIO()
    picture.save(encoded, format="JPEG", quality=THUMBNAIL_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"


def _filled(part: str, texts: dict[str, str]) -> str:
    for name, text in texts.items():
        part = part.replace("{{" + name + "}}", text)
    return part


def _asset(name: str) -> str:
    return (files("mouselift") / "assets" / "viewer" / name).read_text(encoding="utf-8")
