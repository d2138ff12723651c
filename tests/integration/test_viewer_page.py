"""The viewer's page in a real browser, compared with our own renderer."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from browser import Page, open_page
from torch.nn import functional as F

from mouselift.export.viewer_html import write_viewer_html
from mouselift.geometry import Cameras, Gaussians
from mouselift.geometry.rigs import FACELIFT_FRONT_DEG, MOUSE_FOV_DEG, MOUSE_RIG_ELEVATION_DEG, orbit
from mouselift.geometry.sh import dc_from_rgb
from mouselift.render import render

BAR_PX = 50  # the lowest rows hold buttons and a hint
DRAG_PX = 125.0
RADIANS_PER_PX = 0.008
AGREE_DB = 38.0


def two_balls(count: int = 4000) -> Gaussians:
    """A dark ball before a bright one as seen from the front: wrong in any order but the right one."""
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    front = torch.arange(count) % 2 == 0
    centre = torch.where(front[:, None], torch.tensor([0.1, -0.3, -0.05]), torch.tensor([-0.05, 0.25, 0.0]))
    colour = torch.where(front[:, None], torch.tensor([0.1, 0.2, 0.5]), torch.tensor([0.9, 0.7, 0.2]))
    return Gaussians(
        means=centre + 0.2 * directions,
        quats=F.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=torch.tensor([0.05, 0.005, 0.005]) * (0.5 + torch.rand(count, 3, generator=generator)),  # hairs
        opacities=0.3 + 0.69 * torch.rand(count, generator=generator),
        sh=dc_from_rgb((colour + 0.1 * torch.randn(count, 3, generator=generator)).clamp(0, 1))[:, None],
    )


def camera_of_the_page(page: Page, azimuth_deg: float) -> Cameras:
    """The page's camera, from what the page says of itself."""
    width, height = page.evaluate("canvas.width"), page.evaluate("canvas.height")
    target = torch.tensor([page.evaluate(f"scene.target[{k}]") for k in range(3)])
    side = min(width, height)
    square = orbit(
        [azimuth_deg],
        MOUSE_RIG_ELEVATION_DEG,
        radius=page.evaluate("scene.distance"),
        fov_deg=MOUSE_FOV_DEG,
        size_px=side,
    )
    w2c = square.w2c.clone()
    w2c[:, :3, 3] -= w2c[:, :3, :3] @ target
    moved = Cameras(K=square.K, w2c=w2c, width=side, height=side)
    return moved.cropped((side - width) // 2, (side - height) // 2, width, height)


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """Agreement of two pictures of the page in [0, 255], without their lowest rows."""
    error = ((a[:-BAR_PX].astype(float) - b[:-BAR_PX]) ** 2).mean()
    return -10 * math.log10(max(float(error) / 255**2, 1e-10))


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the page did not show what it should"
        time.sleep(0.5)


def test_the_page_shows_what_our_renderer_draws(tmp_path: Path) -> None:
    gaussians = two_balls()
    write_viewer_html(gaussians, tmp_path / "viewer.html", title="Two balls")

    def drawn(page: Page, azimuth_deg: float) -> np.ndarray:
        image = render(gaussians, camera_of_the_page(page, azimuth_deg)).image[0]
        return image.clamp(0, 1).mul(255).permute(1, 2, 0).numpy()

    with open_page((tmp_path / "viewer.html").as_uri(), tmp_path / "profile") as page:
        wait_for(lambda: page.evaluate("document.readyState") == "complete")
        front = drawn(page, FACELIFT_FRONT_DEG)
        turned = drawn(page, FACELIFT_FRONT_DEG - math.degrees(RADIANS_PER_PX * DRAG_PX))
        assert psnr_db(front, turned) < 25  # the comparisons below can fail
        wait_for(lambda: psnr_db(page.screenshot(), front) > AGREE_DB)
        page.drag((400, 300), (400 + DRAG_PX, 300))
        wait_for(lambda: psnr_db(page.screenshot(), turned) > AGREE_DB)
        page.drag((400, 300), (400, 300), clicks=2)  # a double click starts again
        wait_for(lambda: psnr_db(page.screenshot(), front) > AGREE_DB)
        page.evaluate("document.querySelector('button[title^=dark]').click()")
        wait_for(lambda: page.screenshot()[0, 0].tolist() == [21, 23, 26])
        assert page.evaluate("document.title") == "Two balls"
        assert page.errors == []
        assert page.requests == [(tmp_path / "viewer.html").as_uri()]
