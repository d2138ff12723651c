"""Commands to look at Gaussians: `view`, `film`, `sheet`."""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from mouselift.cli.app import Out, app
from mouselift.errors import InputError


@app.command
def view(
    files: Positional[tuple[Path, ...]],
    /,
    *,
    html: Path | None = None,
    sample: Path | None = None,
    up: Literal["z", "y", "-y"] = "z",
    every: int = 1,
    fps: float = 25.0,
    port: int = 0,
    browser: bool = True,
) -> None:
    """Look at Gaussians in the browser: several models, a rig's cameras, sequences. Ctrl-C ends it.

    Args:
        files: Models, side by side: files (.ply, .splat, .spz, .sog, ...), result folders, or folders of either, which
            are played as sequences.
        html: Write one self-contained page to this file instead.
        sample: A sample folder of a dataset: its cameras are drawn, with what they saw.
        up: Which way is up in the files; most scenes made elsewhere need -y.
        every: Of sequences, show each n-th frame.
        fps: Frames a second of sequences.
        port: Of the local address; a free one when 0.
        browser: Open a window of the browser; otherwise the address is only printed.
    """
    from mouselift.data.layout import read_sample
    from mouselift.export.sequence import read_sequence
    from mouselift.export.serve import address_of, open_in_browser, page_server
    from mouselift.export.viewer_html import viewer_page, write_viewer_page

    if not files:
        raise InputError("expected one or several files of Gaussians, found none")
    _check_fps(fps)
    known = None if sample is None else read_sample(sample)
    if known is not None and up != "z":
        raise InputError(f"expected models in the frame of the sample, where up is z, found --up {up}")
    scene_from_world = None if known is None else known.scene_from_world
    models = [read_sequence(file, every=every, up=up, scene_from_world=scene_from_world) for file in files]
    if len({model.name for model in models}) < len(models):
        models = [replace(model, name=str(file)) for model, file in zip(models, files, strict=True)]
    title = ", ".join(model.name for model in models)
    photographs = None if known is None else known.views
    if html is not None:
        write_viewer_page(models, html, title=title, photographs=photographs, fps=fps)
        sys.stdout.write(f"{html}: {html.stat().st_size / 1e6:.1f} MB, opens without network\n")
        return
    server = page_server("".join(viewer_page(models, title=title, photographs=photographs, fps=fps)), port)
    address = address_of(server)
    opened = browser and open_in_browser(address)
    sys.stdout.write(f"{'shown' if opened else 'open it'} at {address}, until Ctrl-C\n")
    sys.stdout.flush()
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()


@app.command
def film(
    source: Positional[Path],
    /,
    *,
    out: Out,
    path: Literal["turntable", "fly"] = "turntable",
    layer: Literal["colour", "alpha", "depth"] = "colour",
    seconds: float | None = None,
    fps: float = 24.0,
    size_px: int = 512,
    elevation_deg: float = 20.0,
    background: str = "white",
    up: Literal["z", "y", "-y"] = "z",
    every: int = 1,
) -> None:
    """Film Gaussians from all sides: .mp4, .gif or .webp.

    Args:
        source: A file of Gaussians, a result folder, or a folder of either: a sequence, which plays meanwhile.
        out: The film; its suffix chooses the format.
        path: turntable, a level circle; or fly, which rises, dives and comes closer.
        layer: What to show.
        seconds: Length; 5 when not given, or that of the sequence.
        fps: Frames a second.
        size_px: Width and height.
        elevation_deg: Of a turntable above the horizontal plane.
        background: A name as in HTML, or #rrggbb.
        up: Which way is up in the files.
        every: Of sequences, use each n-th frame.
    """
    from mouselift.export.camera_path import cameras_along, framed
    from mouselift.export.film import film_frames, write_animation
    from mouselift.export.panels import film_layer
    from mouselift.export.sequence import read_sequence

    _check_fps(fps)
    if size_px < 16 or (seconds is not None and seconds <= 0):
        raise InputError(f"expected 16 px or more and more than 0 s, found {size_px} px and {seconds} s")
    sequence = read_sequence(source, every=every, up=up)
    length_s = seconds or (5.0 if len(sequence.frames) == 1 else len(sequence.frames) / fps)
    cameras = cameras_along(path, max(1, round(length_s * fps)), size_px=size_px, elevation_deg=elevation_deg)
    frames = film_frames(framed(sequence.frames), cameras, background=_colour(background), layer=film_layer(layer))
    write_animation(frames, out, fps)
    sys.stdout.write(f"{out}: {len(cameras)} frames, {out.stat().st_size / 1e6:.2f} MB\n")


@app.command
def sheet(
    source: Positional[Path],
    /,
    *,
    out: Out,
    sample: Path | None = None,
    views: Annotated[int, arg(aliases=["-n"])] = 6,
    size_px: int = 256,
    up: Literal["z", "y", "-y"] = "z",
) -> None:
    """One picture of Gaussians: colour, alpha and depth from all sides, or beside true views.

    Args:
        source: A file of Gaussians or a result folder.
        out: The .png file.
        sample: A sample folder of a dataset: its views beside the Gaussians', with alpha, depth and error.
        views: How many directions, or at most how many views of the sample.
        size_px: Of each picture, without a sample.
        up: Which way is up in the file.
    """
    from mouselift.data.layout import read_sample
    from mouselift.export.camera_path import cameras_along, framed
    from mouselift.export.panels import comparison_rows, layer_rows
    from mouselift.export.picture import contact_sheet
    from mouselift.export.sequence import read_sequence

    if views < 1 or size_px < 16:
        raise InputError(f"expected at least 1 view of at least 16 px, found {views} of {size_px} px")
    if sample is None:
        scene = framed(read_sequence(source, up=up).frames[:1])[0]
        rows = layer_rows(scene, cameras_along("turntable", views, size_px=size_px))
    else:
        known = read_sample(sample)
        model = read_sequence(source, up=up, scene_from_world=known.scene_from_world).frames[0]
        rows = comparison_rows(model, known.views[:views])
    contact_sheet(rows, out)
    sys.stdout.write(f"{out}: {len(rows)} rows of {len(rows[0])} pictures\n")


def _check_fps(fps: float) -> None:
    if not 0 < fps <= 240:
        raise InputError(f"expected 0 to 240 frames a second, found {fps:g}")


def _colour(name: str) -> tuple[float, float, float]:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise InputError(f"expected a colour as white or #30506a, found {name!r}") from None
    return red / 255, green / 255, blue / 255
