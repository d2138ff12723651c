"""One interpolation from the frame to the framed picture: pixels and cameras stay together."""

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from mouselift.data.crop import COLOUR_MARGIN_PX, crop_maps, crop_view, raw_from_virtual
from mouselift.geometry import Cameras, look_at
from mouselift.geometry.rigs import pinhole_K

WIDTH, HEIGHT, SIZE = 320, 256, 128
LENS = torch.tensor([[-0.16, 0.3, 0.001, -0.002, -0.2]], dtype=torch.float64)


def raw_camera(lens: torch.Tensor | None = LENS, skew: float = 3.0) -> Cameras:
    """300 mm from the origin, not looking straight at it."""
    K = torch.tensor([[[480.0, skew, 165.0], [0.0, 470.0, 120.0], [0.0, 0.0, 1.0]]], dtype=torch.float64)
    eye = torch.tensor([[260.0, -120.0, 90.0]], dtype=torch.float64)
    return Cameras(
        K=K, w2c=look_at(eye, torch.tensor([5.0, 8.0, 4.0]).double()), width=WIDTH, height=HEIGHT, distortion=lens
    )


def virtual_camera(raw: Cameras, centre: torch.Tensor, fov_deg: float, size: int = SIZE) -> Cameras:
    return raw.looking_at(centre, pinhole_K(fov_deg, size).double(), size)


def dots(pixels: torch.Tensor, radius: float) -> np.ndarray:
    """A frame with a bright blob at each pixel position, as a camera with our pixel convention shows it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    blobs = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)) for px, py in pixels.tolist()]
    return (255 * np.max(blobs, axis=0)).round().astype(np.uint8)


@pytest.mark.parametrize("fov_deg", [24.0, 60.0])
@pytest.mark.parametrize("lens", [None, LENS])
def test_a_point_is_where_the_virtual_camera_projects_it(lens: torch.Tensor | None, fov_deg: float) -> None:
    raw = raw_camera(lens)
    centre = torch.tensor([10.0, -5.0, 12.0], dtype=torch.float64)
    virtual = virtual_camera(raw, centre, fov_deg)
    for offset in ([0.0, 0.0, 0.0], [18.0, 25.0, -6.0], [-20.0, -15.0, 14.0]):
        point = centre + torch.tensor(offset, dtype=torch.float64)
        frame = dots(raw.project(point[None])[0], radius=6.0)
        mask = np.full_like(frame, 255)
        crop = crop_view(np.dstack([frame] * 3), mask, crop_maps(raw, virtual)[0]).astype(float)
        bright = np.where(crop[..., 0] > 40, crop[..., 0], 0)
        rows, columns = np.indices(bright.shape) + 0.5
        found = np.array([(columns * bright).sum(), (rows * bright).sum()]) / bright.sum()
        expected = virtual.project(point[None])[0, 0].numpy()
        assert np.abs(found - expected).max() < 0.12  # of an output pixel, after 8-bit rounding


def test_the_crop_is_the_exactly_warped_frame() -> None:
    raw = raw_camera()
    virtual = virtual_camera(raw, torch.tensor([10.0, -5.0, 12.0]).double(), 15.0)
    generator = np.random.default_rng(0)
    frame = cv2.GaussianBlur(generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 3)
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    crop = crop_view(frame, mask, crop_maps(raw, virtual)[0])
    centres = torch.arange(SIZE) + 0.5
    where = raw_from_virtual(raw[0], virtual[0], centres, centres).numpy() - 0.5
    exact = np.stack(
        [map_coordinates(frame[..., c].astype(float), [where[..., 1], where[..., 0]], order=1) for c in range(3)],
        axis=-1,
    )
    inside = (where > 1).all(-1) & (where < [WIDTH - 2, HEIGHT - 2]).all(-1)
    assert inside.mean() > 0.9
    assert np.abs(crop[..., :3].astype(float) - exact)[inside].max() <= 1.5  # grey values; OpenCV rounds to 1/32 px


def test_interpolating_the_map_costs_less_than_a_hundredth_of_a_pixel() -> None:
    from mouselift.data.crop import _cell_centres, _interpolated

    raw = raw_camera()
    virtual = virtual_camera(raw, torch.tensor([10.0, -5.0, 12.0]).double(), 30.0)
    nodes = raw_from_virtual(raw[0], virtual[0], _cell_centres(SIZE), _cell_centres(SIZE)).numpy()
    found = _interpolated(nodes, 1)
    centres = torch.arange(SIZE) + 0.5
    exact = raw_from_virtual(raw[0], virtual[0], centres, centres).numpy()
    assert np.abs(found - exact).max() < 0.01 * raw.K[0, 0, 0] / virtual.K[0, 0, 0]


def test_colours_end_a_few_pixels_outside_the_mask() -> None:
    raw = raw_camera()
    virtual = virtual_camera(raw, torch.tensor([5.0, 8.0, 4.0]).double(), 30.0)
    frame = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(mask, (165, 120), 25, 255, -1)
    crop = crop_view(frame, mask, crop_maps(raw, virtual)[0])
    near = cv2.dilate(crop[..., 3], np.ones((2 * COLOUR_MARGIN_PX + 1,) * 2, np.uint8)) > 0
    assert (crop[..., :3][near] == 200).all()
    assert (crop[..., :3][~near] == 0).all()
    assert 0.02 < (crop[..., 3] > 127).mean() < 0.5


def test_fine_masks_become_anti_aliased() -> None:
    """Where a frame is four times finer than the crop, the mask's area must survive, not its sampling."""
    raw = raw_camera(lens=None, skew=0.0)
    virtual = virtual_camera(raw, torch.tensor([5.0, 8.0, 4.0]).double(), 60.0)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[100:150:2, 120:200] = 255  # stripes a pixel wide
    crop = crop_view(np.zeros((HEIGHT, WIDTH, 3), np.uint8), mask, crop_maps(raw, virtual)[0])
    rows, columns = np.nonzero(crop[..., 3] > 20)
    middle = crop[rows.min() + 3 : rows.max() - 3, columns.min() + 3 : columns.max() - 3, 3]
    assert abs(middle.mean() / 255 - 0.5) < 0.05
    assert middle.std() < 40


def test_nothing_in_the_picture_gives_an_empty_crop() -> None:
    raw = raw_camera()
    virtual = virtual_camera(raw, torch.tensor([5.0, 8.0, 4.0]).double(), 30.0)
    frame, mask = np.full((HEIGHT, WIDTH, 3), 200, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    assert not crop_view(frame, mask, crop_maps(raw, virtual)[0]).any()
    mask[:4, :4] = 255  # a corner that the virtual camera does not show
    narrow = virtual_camera(raw, torch.tensor([5.0, 8.0, 4.0]).double(), 5.0)
    assert not crop_view(frame, mask, crop_maps(raw, narrow)[0]).any()


def test_a_virtual_camera_elsewhere_is_refused() -> None:
    raw = raw_camera()
    virtual = virtual_camera(raw, torch.zeros(3).double(), 30.0)
    moved = Cameras(K=virtual.K, w2c=virtual.w2c + torch.eye(4).double() * 0, width=SIZE, height=SIZE)
    moved.w2c[0, 0, 3] += 1.0
    with pytest.raises(ValueError, match="must stand where the real one stands"):
        crop_maps(raw, moved)
