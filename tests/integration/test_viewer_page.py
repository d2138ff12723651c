"""The viewer's page in a real browser, compared with our own renderer."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Page, open_page
from PIL import Image
from torch.nn import functional as F

from mouselift.export.sequence import Sequence4D
from mouselift.export.viewer_html import write_viewer_html, write_viewer_page
from mouselift.geometry import Cameras, Gaussians, Views
from mouselift.geometry.rigs import FACELIFT_FRONT_DEG, MOUSE_FOV_DEG, MOUSE_RIG_ELEVATION_DEG, orbit
from mouselift.geometry.sh import dc_from_rgb
from mouselift.render import render

BAR_PX = 60  # the lowest rows hold buttons and a hint
DRAG_PX = 125.0
RADIANS_PER_PX = 0.008
AGREE_DB = 38.0


def two_balls(count: int = 4000, degree: int = 0) -> Gaussians:
    """A dark ball before a bright one as seen from the front: wrong in any order but the right one."""
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    front = torch.arange(count) % 2 == 0
    centre = torch.where(front[:, None], torch.tensor([0.1, -0.3, -0.05]), torch.tensor([-0.05, 0.25, 0.0]))
    colour = torch.where(front[:, None], torch.tensor([0.1, 0.2, 0.5]), torch.tensor([0.9, 0.7, 0.2]))
    noise = 0.15 * torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=generator)
    dc = dc_from_rgb((colour + 0.1 * torch.randn(count, 3, generator=generator)).clamp(0, 1))[:, None]
    return Gaussians(
        means=centre + 0.2 * directions,
        quats=F.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=torch.tensor([0.05, 0.005, 0.005]) * (0.5 + torch.rand(count, 3, generator=generator)),  # hairs
        opacities=0.3 + 0.69 * torch.rand(count, generator=generator),
        sh=torch.cat([dc, noise], dim=1),
    )


def camera_of_the_page(page: Page, azimuth_deg: float) -> Cameras:
    """The page's camera, from what the page says of itself."""
    width, height = page.evaluate("canvas.width"), page.evaluate("canvas.height")
    radius = page.evaluate("scene.models[0].radius")
    target = torch.tensor([page.evaluate(f"scene.models[0].target[{k}]") for k in range(3)])
    side = min(width, height)
    square = orbit(
        [azimuth_deg],
        MOUSE_RIG_ELEVATION_DEG,
        radius=radius * page.evaluate("scene.distance"),
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


def away_from(background: list[int], picture: np.ndarray) -> float:
    """Share of the pixels above the bar that are not background."""
    return float((np.abs(picture[:-BAR_PX].astype(int) - background).max(axis=-1) > 24).mean())


@pytest.mark.parametrize("degree", [0, 3])
def test_the_page_shows_what_our_renderer_draws(tmp_path: Path, degree: int) -> None:
    gaussians = two_balls(degree=degree)
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
        assert away_from([255, 255, 255], page.screenshot()) > 0.05
        page.drag((400, 300), (400 + DRAG_PX, 300))
        wait_for(lambda: psnr_db(page.screenshot(), turned) > AGREE_DB)
        page.drag((400, 300), (400, 300), clicks=2)  # a double click starts again
        wait_for(lambda: psnr_db(page.screenshot(), front) > AGREE_DB)
        page.evaluate("document.querySelector('button[title^=dark]').click()")
        wait_for(lambda: page.screenshot()[0, 0].tolist() == [21, 23, 26])
        assert page.evaluate("document.title") == "Two balls"
        assert page.errors == []
        assert page.requests == [(tmp_path / "viewer.html").as_uri()]


def test_keys_and_fingers_do_what_the_help_says(tmp_path: Path) -> None:
    write_viewer_html(two_balls(500), tmp_path / "viewer.html")
    with open_page((tmp_path / "viewer.html").as_uri(), tmp_path / "profile") as page:
        wait_for(lambda: page.evaluate("document.readyState") == "complete")

        def view(name: str) -> float:
            return page.evaluate(f"state.view.{name}")

        azimuth, elevation, distance = (view(name) for name in ("azimuth", "elevation", "distance"))
        first = page.screenshot()
        page.press("ArrowRight")
        page.press("ArrowDown")
        assert (view("azimuth"), view("elevation")) == pytest.approx((azimuth - math.pi / 36, elevation + math.pi / 36))
        page.press("+")
        assert view("distance") == pytest.approx(distance / 1.1)
        page.press("b")
        wait_for(lambda: page.screenshot()[0, 0].tolist() == [154, 160, 168])
        page.press("b")
        page.press("b")
        page.press("[")
        assert page.evaluate("state.pointSize") == pytest.approx(0.9)
        page.press("]")
        page.press("h")
        assert page.evaluate("document.getElementById('help').hidden") is False
        page.press("Escape")
        assert page.evaluate("document.getElementById('help').hidden") is True
        page.press("r")
        wait_for(lambda: psnr_db(page.screenshot(), first) > 60)

        page.touch(((400, 300), (500, 300)))
        assert view("azimuth") == pytest.approx(azimuth - 100 * RADIANS_PER_PX)
        page.touch(((400, 300), (350, 300)), ((500, 300), (550, 300)))  # pinch
        assert view("distance") == pytest.approx(distance / 2, rel=0.01)
        assert view("azimuth") == pytest.approx(azimuth - 100 * RADIANS_PER_PX)

        page.evaluate("HTMLAnchorElement.prototype.click = function () { window.saved = this.download; }")
        page.press("s")
        wait_for(lambda: page.evaluate("window.saved") == "MouseLift.png")
        assert page.errors == []


def test_the_bar_and_the_wheel_work_and_pictures_are_saved(tmp_path: Path) -> None:
    write_viewer_html(two_balls(500), tmp_path / "viewer.html", title="Two balls")
    with open_page((tmp_path / "viewer.html").as_uri(), tmp_path / "profile") as page:
        wait_for(lambda: page.evaluate("document.readyState") == "complete")
        page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        wait_for(lambda: away_from([255, 255, 255], page.screenshot()) > 0.05)
        first = page.screenshot()

        page.evaluate(
            "{ const size = document.getElementById('size'); size.value = 0.3; size.oninput({target: size}); }"
        )
        wait_for(lambda: away_from([255, 255, 255], page.screenshot()) < 0.5 * away_from([255, 255, 255], first))
        page.evaluate("{ const c = document.getElementById('colour'); c.value = '#204060'; c.oninput({target: c}); }")
        wait_for(lambda: page.screenshot()[0, 0].tolist() == [32, 64, 96])

        page.evaluate("document.getElementById('save').click()")
        wait_for((tmp_path / "Two_balls.png").is_file)
        with Image.open(tmp_path / "Two_balls.png") as picture:
            saved = np.asarray(picture.convert("RGB"))
        assert psnr_db(saved, page.screenshot()) > 45

        distance = page.evaluate("state.view.distance")
        wheel = {"type": "mouseWheel", "x": 400, "y": 300, "deltaX": 0}
        page.call("Input.dispatchMouseEvent", **wheel, deltaY=240)
        wait_for(lambda: page.evaluate("state.view.distance") > 1.05 * distance)
        page.press("ArrowLeft")
        with_shift = {"x": 400, "y": 300, "button": "left", "buttons": 1, "modifiers": 8}
        page.call("Input.dispatchMouseEvent", type="mousePressed", clickCount=1, **with_shift)
        page.call("Input.dispatchMouseEvent", type="mouseMoved", **{**with_shift, "x": 460})
        page.call("Input.dispatchMouseEvent", type="mouseReleased", **{**with_shift, "x": 460})
        assert page.evaluate("Math.hypot(...state.view.offset)") > 0.1

        page.evaluate("document.getElementById('reset').click()")
        assert page.evaluate("JSON.stringify(state.view) === JSON.stringify(firstView())") is True
        page.evaluate("document.querySelector('button[title^=white]').click()")
        for _ in range(7):
            page.press("]")
        assert page.evaluate("state.pointSize") == pytest.approx(1.0)
        wait_for(lambda: psnr_db(page.screenshot(), first) > 60)
        page.evaluate("document.getElementById('help-button').click()")
        assert page.evaluate("document.getElementById('help').hidden") is False
        assert page.errors == []


def test_models_sequences_and_cameras(tmp_path: Path) -> None:
    balls = two_balls(1500)
    red = replace(balls, sh=dc_from_rgb(torch.tensor([0.9, 0.1, 0.1])).expand(1500, 1, 3))
    blue = replace(balls, sh=dc_from_rgb(torch.tensor([0.1, 0.1, 0.9])).expand(1500, 1, 3))
    cameras = replace(orbit([10.0, 130.0], 30.0, fov_deg=40.0, size_px=64), names=("left", "right"))
    output = render(balls, cameras)
    photographs = Views(images=output.image.clamp(0, 1), masks=torch.ones(2, 1, 64, 64), cameras=cameras)
    models = [
        Sequence4D(name="still", frames=[balls], frame_names=["still"]),
        Sequence4D(name="moving", frames=[red, blue, red], frame_names=["t0", "t1", "t2"]),
    ]
    write_viewer_page(models, tmp_path / "viewer.html", photographs=photographs, fps=5)

    def mean_colour(picture: np.ndarray) -> np.ndarray:
        shown = picture[: -2 * BAR_PX].reshape(-1, 3)
        return shown[np.abs(shown.astype(int) - 255).max(axis=-1) > 60].mean(axis=0)

    with open_page((tmp_path / "viewer.html").as_uri(), tmp_path / "profile") as page:
        wait_for(lambda: page.evaluate("document.readyState") == "complete")
        wait_for(lambda: away_from([255, 255, 255], page.screenshot()) > 0.05)
        both = page.screenshot()
        left, right = both[50 : -2 * BAR_PX, :500], both[50 : -2 * BAR_PX, 500:]
        assert min(away_from([255, 255, 255], half) for half in (left, right)) > 0.05
        assert mean_colour(right).argmax() == 0
        page.press(".")
        wait_for(lambda: mean_colour(page.screenshot()[50:, 500:]).argmax() == 2)
        page.press("2")
        wait_for(lambda: mean_colour(page.screenshot()[50:]).argmax() == 2)
        assert page.evaluate("document.getElementById('labels').textContent") == "moving: t1"
        page.press(" ")
        wait_for(lambda: page.evaluate("state.frame") != 1)
        page.press(" ")
        assert page.evaluate("state.playing") is False

        page.press("1")
        page.press("c")
        wait_for(lambda: (page.screenshot()[: -2 * BAR_PX] == [64, 128, 242]).all(axis=-1).sum() > 50)  # frustums
        page.press("v")
        wait_for(lambda: page.evaluate("document.getElementById('photograph').textContent") == "left")
        height, width = page.evaluate("canvas.height"), page.evaluate("canvas.width")
        through = cameras[:1].resized(height, height).cropped((height - width) // 2, 0, width, height)
        seen = render(balls, through).image[0].clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
        page.press("c")  # hides the other camera, and leaves
        page.press("v")
        page.press("v")
        page.press("v")  # past the last one comes the first
        page.evaluate("document.getElementById('photograph').style.display = 'none'")
        page.evaluate("document.getElementById('labels').style.display = 'none'")
        wait_for(lambda: psnr_db(page.screenshot()[:-BAR_PX], seen[:-BAR_PX]) > AGREE_DB)
        page.drag((400, 300), (405, 300))
        assert page.evaluate("state.view.camera") == -1
        assert page.errors == []
