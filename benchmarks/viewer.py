"""Our page beside viser's, in headless Chromium without a graphics card: size, exactness, speed.

    pip install viser && apt-get install chromium
    python benchmarks/viewer.py --pictures pages

Two furry balls, one before the other, of several numbers of Gaussians: as our renderer, our page, viser's exported page
(`as_html`, opened as a file) and viser's served page draw them. Agreement is counted in a square in the middle, against
our renderer. Frames a second are those of a browser that draws with the processor: only their ratio means something.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from mouselift.export.viewer_html import write_viewer_html
from mouselift.geometry import Cameras, Gaussians, look_at
from mouselift.geometry.rigs import FACELIFT_FRONT_DEG, MOUSE_FOV_DEG, MOUSE_RIG_ELEVATION_DEG
from mouselift.geometry.sh import dc_from_rgb
from mouselift.geometry.transforms import quat_to_rotmat
from mouselift.render import render

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import Page, open_page  # pyright: ignore[reportMissingImports]

MIDDLE_PX, PATIENCE_S, DRAG_S = 360, 30.0, 10.0
START = (500.0, 300.0)


def furry_balls(count: int) -> Gaussians:
    """A dark ball before a bright one as seen from the front, of hairs."""
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    front = torch.arange(count) % 2 == 0
    centre = torch.where(front[:, None], torch.tensor([0.1, -0.3, -0.05]), torch.tensor([-0.05, 0.25, 0.0]))
    colour = torch.where(front[:, None], torch.tensor([0.1, 0.2, 0.5]), torch.tensor([0.9, 0.7, 0.2]))
    size = min(1.0, (4000 / count) ** 0.5)
    rgb = (colour + 0.1 * torch.randn(count, 3, generator=generator)).clamp(0, 1)
    return Gaussians(
        means=centre + 0.2 * directions,
        quats=F.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=size * torch.tensor([0.05, 0.005, 0.005]) * (0.5 + torch.rand(count, 3, generator=generator)),
        opacities=0.3 + 0.69 * torch.rand(count, generator=generator),
        sh=dc_from_rgb(rgb)[:, None],
    )


def eye_of(page: Page) -> tuple[torch.Tensor, torch.Tensor]:
    """Where our page's first view stands, and what it looks at."""
    radius = page.evaluate("scene.models[0].radius")
    target = torch.tensor([page.evaluate(f"scene.models[0].target[{k}]") for k in range(3)])
    azimuth, elevation = math.radians(FACELIFT_FRONT_DEG), math.radians(MOUSE_RIG_ELEVATION_DEG)
    flat = math.cos(elevation)
    direction = torch.tensor([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])
    return target + radius * page.evaluate("scene.distance") * direction, target


def drawn(gaussians: Gaussians, eye: torch.Tensor, target: torch.Tensor, width: int, height: int) -> np.ndarray:
    focal = height / 2 / math.tan(math.radians(MOUSE_FOV_DEG) / 2)
    K = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    cameras = Cameras(K=K, w2c=look_at(eye, target)[None], width=width, height=height)
    return render(gaussians, cameras).image[0].clamp(0, 1).mul(255).permute(1, 2, 0).numpy()


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """In a square in the middle, where neither page has controls."""
    top, left = (a.shape[0] - MIDDLE_PX) // 2, (a.shape[1] - MIDDLE_PX) // 2
    box = np.s_[top : top + MIDDLE_PX, left : left + MIDDLE_PX]
    return -10 * math.log10(float(((a[box].astype(float) - b[box]) ** 2).mean()) / 255**2 + 1e-10)


def best_picture(page: Page, truth: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The picture once it gets no better, its agreement, and the seconds until it was within half a dB of that."""
    began, seen = time.monotonic(), []
    while not page.evaluate("location.href !== 'about:blank' && document.readyState === 'complete'"):
        time.sleep(0.1)
    while not seen or time.monotonic() - seen[-1][0] < PATIENCE_S:
        picture = page.screenshot()
        found = psnr_db(picture, truth)
        if not seen or found > seen[-1][1] + 0.5:
            seen.append((time.monotonic(), found, picture))
    return seen[-1][2], seen[-1][1], seen[-1][0] - began


def frames_per_second(page: Page) -> float:
    """While the mouse drags to and fro; a browser calls for a next frame when it is done with those before."""
    page.evaluate("window.ticks = 0; (function tick() { window.ticks++; requestAnimationFrame(tick); })()")
    mouse = {"button": "left", "buttons": 1}
    page.call("Input.dispatchMouseEvent", type="mousePressed", x=START[0], y=START[1], clickCount=1, **mouse)
    before, began, k = page.evaluate("window.ticks"), time.monotonic(), 0
    while time.monotonic() < began + DRAG_S:
        k += 1
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=START[0] + 3 * (k % 40), y=START[1], **mouse)
    page.screenshot()  # until what was asked for is on the screen
    shown, elapsed = page.evaluate("window.ticks") - before, time.monotonic() - began
    page.call("Input.dispatchMouseEvent", type="mouseReleased", x=START[0], y=START[1], clickCount=1, **mouse)
    return shown / elapsed


@contextmanager
def viser_pages(
    gaussians: Gaussians, eye: torch.Tensor, target: torch.Tensor, folder: Path
) -> Iterator[tuple[Path, str]]:
    """The exported page and the address of the served one, both with our first view."""
    import viser  # pyright: ignore[reportMissingImports]

    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    server.scene.set_up_direction("+z")
    server.initial_camera.position, server.initial_camera.look_at = eye.numpy(), target.numpy()
    server.initial_camera.fov = math.radians(MOUSE_FOV_DEG)
    axes = quat_to_rotmat(gaussians.quats) * gaussians.scales[:, None, :]
    server.scene.add_gaussian_splats(
        "/model",
        centers=gaussians.means.numpy(),
        covariances=(axes @ axes.mT).numpy(),
        rgbs=gaussians.rgb.clamp(0, 1).numpy(),
        opacities=gaussians.opacities[:, None].numpy(),
    )
    exported = folder / "viser.html"
    exported.write_text(server.get_scene_serializer().as_html())
    try:
        yield exported, f"http://127.0.0.1:{server.get_port()}"
    finally:
        server.stop()


def measure(name: str, address: str, size: int | None, truth: np.ndarray, folder: Path, pictures: Path) -> str:
    """One row of the table."""
    with open_page(address, folder / f"profile-{name}") as page:
        picture, agreement_db, ready_s = best_picture(page, truth)
        Image.fromarray(picture).save(pictures / f"{name}.png")
        speed = frames_per_second(page)
    shown_size = "-" if size is None else f"{size / 1e6:.2f}"
    return f"| {name} | {shown_size} | {ready_s:.1f} | {agreement_db:.1f} | {speed:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[4000, 100_000, 400_000])
    parser.add_argument("--pictures", type=Path, default=Path("pages"))
    arguments = parser.parse_args()
    arguments.pictures.mkdir(parents=True, exist_ok=True)
    print("| page | MB | s until drawn | dB to our renderer | frames a second |\n|---|---|---|---|---|")
    for count in arguments.counts:
        gaussians = furry_balls(count)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
            folder = Path(temporary)
            ours = folder / "ours.html"
            write_viewer_html(gaussians, ours)
            with open_page(ours.as_uri(), folder / "profile") as page:
                while not page.evaluate("typeof scene === 'object' && document.readyState === 'complete'"):
                    time.sleep(0.1)
                (eye, target), (height, width) = eye_of(page), page.screenshot().shape[:2]
            truth = drawn(gaussians, eye, target, width, height)
            Image.fromarray(truth.round().astype(np.uint8)).save(arguments.pictures / f"{count}-renderer.png")

            def row(name: str, address: str, file: Path | None) -> None:
                size = None if file is None else file.stat().st_size
                print(measure(f"{count}-{name}", address, size, truth, folder, arguments.pictures), flush=True)  # noqa: B023

            row("ours", ours.as_uri(), ours)
            with viser_pages(gaussians, eye, target, folder) as (exported, served):
                row("viser-file", exported.as_uri(), exported)
                row("viser-served", served, None)


if __name__ == "__main__":
    main()
