from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import BATCH_SHAPES, HEIGHT, WIDTH, random_cameras, random_views, seeded, uniform

from mouselift.geometry import Cameras, Views
from mouselift.geometry.rays import pixel_centres

SEEDS = st.integers(0, 2**31)


def solid(cameras: Cameras, colour: torch.Tensor, masks: torch.Tensor) -> Views:
    images = colour[:, None, None].expand(*cameras.batch_shape, 3, cameras.height, cameras.width)
    return Views(images=images, masks=masks, cameras=cameras)


def coordinate_views(cameras: Cameras) -> Views:
    """A picture of its own pixel coordinates (column, row): shows what an operation moved where."""
    columns, rows = pixel_centres(cameras.height, cameras.width, like=cameras.K).unbind(-1)
    images = torch.stack([columns / WIDTH, rows / HEIGHT, torch.zeros_like(rows)])
    return Views(images=images, masks=torch.ones_like(images[:1]), cameras=cameras)


# ---- over


@pytest.mark.parametrize("batch", BATCH_SHAPES)
def test_over_is_the_closed_form(batch: tuple[int, ...], generator: torch.Generator) -> None:
    views, background = random_views(generator, *batch), uniform(generator, 3)
    over = views.over(background)
    expected = views.images * views.masks + background[:, None, None] * (1 - views.masks)
    torch.testing.assert_close(over.images, expected)
    assert over.masks is views.masks
    assert over.cameras is views.cameras


def test_over_takes_a_colour_for_each_view(generator: torch.Generator) -> None:
    views, colours = random_views(generator, 2, 3), uniform(generator, 2, 3, 3)
    over = views.over(colours)
    torch.testing.assert_close(over.images[1, 2], views[1, 2].over(colours[1, 2]).images)


# ---- crop


def test_crop_inside_is_a_slice(generator: torch.Generator) -> None:
    views = random_views(generator, 2)
    cropped = views.cropped(5, 3, 20, 10)
    assert torch.equal(cropped.images, views.images[..., 3:13, 5:25])
    assert torch.equal(cropped.masks, views.masks[..., 3:13, 5:25])
    torch.testing.assert_close(cropped.cameras.K, views.cameras.cropped(5, 3, 20, 10).K)


@given(left=st.integers(-30, WIDTH - 1), top=st.integers(-30, HEIGHT - 1), extra=st.integers(1, 40), seed=SEEDS)
def test_crop_pads_with_transparent_black(left: int, top: int, extra: int, seed: int) -> None:
    views = random_views(seeded(seed), 1)
    width, height = max(-left, 0) + extra, max(-top, 0) + extra
    cropped = views.cropped(left, top, width, height)
    for before, after in ((views.images, cropped.images), (views.masks, cropped.masks)):
        for row in range(height):
            for column in range(0, width, 7):
                inside = 0 <= row + top < HEIGHT and 0 <= column + left < WIDTH
                expected = before[0, :, row + top, column + left] if inside else torch.zeros_like(after[0, :, 0, 0])
                assert torch.equal(after[0, :, row, column], expected)


@pytest.mark.parametrize("box", [(WIDTH, 0, 5, 5), (0, HEIGHT, 5, 5), (-5, 0, 5, 5), (0, -7, 5, 7)])
def test_crop_refuses_a_box_beside_the_picture(box: tuple[int, int, int, int], generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="does not touch the picture of 40x30"):
        random_views(generator, 1).cropped(*box)


# ---- resize


@given(seed=SEEDS, width=st.integers(1, 90), height=st.integers(1, 90))
def test_resize_conserves_solid_colour_and_full_masks(seed: int, width: int, height: int) -> None:
    generator = seeded(seed)
    colour = uniform(generator, 3)
    views = solid(random_cameras(generator), colour, torch.ones(1, HEIGHT, WIDTH, dtype=torch.float64))
    resized = views.resized(width, height)
    torch.testing.assert_close(resized.images, colour[:, None, None].expand(3, height, width))
    torch.testing.assert_close(resized.masks, torch.ones(1, height, width, dtype=torch.float64))


@pytest.mark.parametrize("size", [(10, 10), (23, 17), (40, 30), (77, 95)])
def test_resize_lets_nothing_outside_the_mask_bleed_in(size: tuple[int, int], generator: torch.Generator) -> None:
    masks = (uniform(generator, 1, HEIGHT, WIDTH) > 0.6).double()
    inside, outside = torch.tensor([0.1, 0.7, 0.3]).double(), torch.tensor([1.0, 0.0, 1.0]).double()
    images = torch.where(masks > 0, inside[:, None, None], outside[:, None, None])
    resized = Views(images=images, masks=masks, cameras=random_cameras(generator)).resized(*size)
    seen = resized.masks[0] > 2e-3
    assert seen.any()
    assert (resized.masks[0] < 1).any()
    found = resized.images[:, seen]
    torch.testing.assert_close(found, inside[:, None].expand_as(found), rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(20, 15), (25, 40), (80, 60), (111, 37)])
def test_resize_moves_pixels_as_it_moves_the_camera(size: tuple[int, int], generator: torch.Generator) -> None:
    camera = random_cameras(generator)
    resized = coordinate_views(camera).resized(*size)
    # What the new picture shows at a pixel is where that pixel was; the two cameras say the same.
    pixels = pixel_centres(size[1], size[0], like=camera.K).reshape(-1, 2)
    points = resized.cameras.unproject(pixels, torch.ones(len(pixels), dtype=torch.float64))
    expected = (camera.project(points) / torch.tensor([WIDTH, HEIGHT])).reshape(size[1], size[0], 2)
    inner = (slice(4, -4), slice(4, -4))  # the filter sees the border outside
    error_px = (resized.images[:2].movedim(0, -1) - expected)[inner] * torch.tensor([WIDTH, HEIGHT])
    # A ratio that is no whole number makes the sampled filter ripple by some hundredths of a pixel.
    assert error_px.abs().max() < 0.1
    assert error_px.mean((0, 1)).abs().max() < 0.01


def test_resize_to_the_same_size_changes_nothing_that_is_seen(generator: torch.Generator) -> None:
    views = random_views(generator, 2)
    resized = views.resized(WIDTH, HEIGHT)
    seen = (views.masks > 2e-3).expand_as(views.images)
    torch.testing.assert_close(resized.images[seen], views.images[seen])
    torch.testing.assert_close(resized.masks, views.masks)
    torch.testing.assert_close(resized.cameras.K, views.cameras.K)


def test_crop_and_resize_then_project_reads_the_original_pixel(generator: torch.Generator) -> None:
    camera = random_cameras(generator)
    small = coordinate_views(camera).cropped(4, 2, 32, 24).resized(64, 48)
    points = camera.unproject(torch.tensor([[20.3, 14.9]]).double(), torch.tensor([2.0]).double())
    column, row = small.cameras.project(points)[0].tolist()
    # Bilinear by hand, at a pixel centre of (0.5, 0.5)
    left, top = int(column - 0.5), int(row - 0.5)
    fx, fy = column - 0.5 - left, row - 0.5 - top
    patch = small.images[:2, top : top + 2, left : left + 2]
    value = (patch[:, 0] * (1 - fy) + patch[:, 1] * fy) @ torch.tensor([1 - fx, fx]).double()
    torch.testing.assert_close(value * torch.tensor([WIDTH, HEIGHT]), torch.tensor([20.3, 14.9]).double())


# ---- shape and refusals


def test_index_stack_cat_and_reshape_keep_pictures_with_their_cameras(generator: torch.Generator) -> None:
    a, b = random_views(generator, 2), random_views(generator, 2)
    stacked = Views.stack([a, b])
    assert stacked.batch_shape == (2, 2)
    joined = Views.cat([a, b])
    for row, views in enumerate((a, b)):
        for column in range(2):
            for found in (stacked[row, column], joined[2 * row + column], stacked.reshape(4)[2 * row + column]):
                assert torch.equal(found.images, views.images[column])
                assert torch.equal(found.masks, views.masks[column])
                assert torch.equal(found.cameras.w2c, views.cameras.w2c[column])
    assert torch.equal(stacked[..., 1].cameras.K, stacked.cameras.K[:, 1])
    with pytest.raises(IndexError):
        a[0, 0]


def test_to_casts_pictures_and_cameras(generator: torch.Generator) -> None:
    views = random_views(generator, 1).to(torch.float32)
    assert {views.images.dtype, views.masks.dtype, views.cameras.K.dtype} == {torch.float32}


def test_refuses_pictures_that_their_cameras_did_not_take(generator: torch.Generator) -> None:
    views = random_views(generator, 2)
    with pytest.raises(ValueError, match=r"images are \(30, 40\).* cameras \(15, 20\)"):
        replace(views, cameras=views.cameras.resized(20, 15))
    with pytest.raises(ValueError, match=r"batch shapes differ: images \(2,\), masks \(2,\), cameras \(3,\)"):
        replace(views, cameras=random_cameras(generator, 3))
