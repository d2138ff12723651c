import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mouselift.data.components import bounding_box
from mouselift.data.framing import FILL, frame_picture, frame_view, is_framed
from mouselift.errors import InputError
from mouselift.geometry import Views
from mouselift.geometry.rigs import FACELIFT_FRONT_DEG, azimuth_elevation_deg, orbit


def framed(image: torch.Tensor, mask: torch.Tensor, size_px: int = 64, **changes: float) -> Views:
    settings = {"fov_deg": 30.0, "distance": 2.7, "elevation_deg": 20.0, **changes}
    return frame_picture(image, mask, size_px=size_px, **settings)


def box_mask(left: int, top: int, right: int, bottom: int, height: int = 120, width: int = 160) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, top:bottom, left:right] = 1
    return mask


@given(
    left=st.integers(0, 100),
    top=st.integers(0, 80),
    wide=st.integers(20, 60),
    high=st.integers(20, 40),
    fill=st.floats(0.4, 0.95),
)
def test_the_animal_fills_its_share_in_the_middle(left: int, top: int, wide: int, high: int, fill: float) -> None:
    mask = box_mask(left, top, left + wide, top + high)
    views = framed(torch.rand(3, 120, 160), mask, fill=fill)
    x0, y0, x1, y1 = bounding_box(views.masks[0, 0] > 0.5)
    pixel = 64 / (max(wide, high) / fill)  # how large a pixel of the picture is in the frame
    assert max(x1 - x0, y1 - y0) == pytest.approx(fill * 64, abs=pixel + 1)
    assert (x0 + x1) / 2 == pytest.approx(32, abs=pixel + 1)
    assert (y0 + y1) / 2 == pytest.approx(32, abs=pixel + 1)


@pytest.mark.parametrize("azimuth", [FACELIFT_FRONT_DEG, 40.0])
def test_the_camera_is_the_assumed_one(azimuth: float) -> None:
    views = framed(torch.rand(3, 120, 160), box_mask(30, 40, 75, 60), azimuth_deg=azimuth)
    expected = orbit([azimuth], 20.0, radius=2.7, fov_deg=30.0, size_px=64)
    torch.testing.assert_close(views.cameras.K, expected.K, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(views.cameras.w2c, expected.w2c)
    assert views.batch_shape == (1,)
    found_azimuth, found_elevation = azimuth_elevation_deg(views.cameras)
    assert float(found_azimuth) == pytest.approx(azimuth, abs=1e-3)
    assert float(found_elevation) == pytest.approx(20.0, abs=1e-3)


def test_pixels_land_where_the_window_says() -> None:
    """A picture whose colours are its coordinates shows which pixel each framed one came from."""
    rows, columns = torch.meshgrid(torch.arange(120) + 0.5, torch.arange(160) + 0.5, indexing="ij")
    image = torch.stack([columns / 160, rows / 120, torch.zeros_like(rows)])
    views = framed(image, box_mask(60, 40, 100, 70), size_px=50, fill=0.8)  # a window of 50 px about (80, 55)
    expected_columns = torch.arange(50) + 55.5
    expected_rows = torch.arange(50) + 30.5
    torch.testing.assert_close(views.images[0, 0] * 160, expected_columns.expand(50, 50), atol=1e-3, rtol=0)
    torch.testing.assert_close(views.images[0, 1] * 120, expected_rows[:, None].expand(50, 50), atol=1e-3, rtol=0)


def test_beyond_the_picture_it_is_transparent() -> None:
    views = framed(torch.ones(3, 120, 160), box_mask(0, 0, 50, 50), fill=0.5)
    assert float(views.masks[..., :10, :10].max()) == 0
    assert float(views.masks[..., 40, 40]) == pytest.approx(1)


def test_fine_stripes_do_not_alias() -> None:
    stripes = (torch.arange(960) % 2).float().expand(3, 960, 960)
    mask = box_mask(100, 100, 860, 860, height=960, width=960)
    views = framed(stripes, mask, size_px=96)
    inside = views.images[..., 20:76, 20:76]
    assert float((inside - 0.5).abs().max()) < 0.06


def test_bad_masks_are_refused() -> None:
    image = torch.rand(3, 120, 160)
    with pytest.raises(InputError, match="found an empty one"):
        framed(image, torch.zeros(1, 120, 160))
    with pytest.raises(InputError, match="at least 16 px long, found 9 px"):
        framed(image, box_mask(10, 10, 19, 15))


def calibrated(mask: torch.Tensor, image: torch.Tensor | None = None) -> Views:
    """A square view of a known camera."""
    size = mask.shape[-1]
    cameras = orbit([20.0], 30.0, fov_deg=45, size_px=size)
    return Views(
        images=torch.rand(1, 3, size, size) if image is None else image[None], masks=mask[None], cameras=cameras
    )


def test_a_small_animal_in_a_known_camera_becomes_large_in_the_middle() -> None:
    view = calibrated(box_mask(20, 100, 60, 120, 160, 160))
    assert not is_framed(view)
    found = frame_view(view, size_px=128)
    assert is_framed(found)
    assert found.cameras.width == 128
    x0, _, x1, _ = bounding_box(found.masks[0, 0] > 0.5)
    assert (x1 - x0) / 128 == pytest.approx(FILL, abs=0.03)


def test_the_camera_moves_with_the_window() -> None:
    """A point of the scene lies on the same pixel of the picture before and after."""
    rows, columns = torch.meshgrid(torch.arange(160) + 0.5, torch.arange(160) + 0.5, indexing="ij")
    view = calibrated(
        box_mask(60, 70, 100, 90, 160, 160), torch.stack([columns / 160, rows / 160, torch.zeros_like(rows)])
    )
    whole = Views(images=view.images, masks=torch.ones_like(view.masks), cameras=view.cameras)
    cut = frame_view(view)
    shown = whole.cropped(*(round(float(v)) for v in view.cameras.K[0, :2, 2] - cut.cameras.K[0, :2, 2]), 56, 56)
    point = torch.tensor([[0.1, -0.05, 0.02]])
    before, after = (camera.project(point)[0, 0] for camera in (view.cameras, cut.cameras))
    x, y = (int(v) for v in after)
    torch.testing.assert_close(shown.images[0, :2, y, x] * 160, before, atol=1.0, rtol=0)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((24, 60, 136, 90), True),
        ((40, 60, 120, 90), False),  # fills half of the width
        ((2, 60, 158, 90), False),  # nearly cut off
        ((0, 60, 112, 90), False),  # beside the middle
    ],
)
def test_a_view_that_is_framed_already_is_told_from_one_that_is_not(box: tuple[int, ...], expected: bool) -> None:
    assert is_framed(calibrated(box_mask(*box, 160, 160))) == expected


def test_a_smudge_in_a_known_camera_is_refused() -> None:
    with pytest.raises(InputError, match="at least 16 px long, found 9 px"):
        frame_view(calibrated(box_mask(80, 80, 89, 84, 160, 160)))
