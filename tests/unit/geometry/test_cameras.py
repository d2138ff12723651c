import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import (
    BATCH_SHAPES,
    HEIGHT,
    WIDTH,
    normal,
    random_cameras,
    random_points,
    random_similarity,
    seeded,
    uniform,
)

from mouselift.geometry import Cameras, look_at
from mouselift.geometry.rigs import pinhole_K
from mouselift.geometry.transforms import apply_rigid, rigid

SEEDS = st.integers(0, 2**31)
Z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def assert_close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def assert_same(a: Cameras, b: Cameras) -> None:
    assert_close(a.K, b.K)
    assert_close(a.w2c, b.w2c)
    assert (a.width, a.height, a.names) == (b.width, b.height, b.names)
    assert (a.distortion is None) == (b.distortion is None)
    if a.distortion is not None and b.distortion is not None:
        assert_close(a.distortion, b.distortion)


# ---- points to pixels and back


def test_project_by_hand() -> None:
    camera = Cameras(
        K=torch.tensor([[100.0, 2.0, 60.0], [0.0, 90.0, 40.0], [0.0, 0.0, 1.0]]),
        w2c=rigid(torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]), torch.tensor([0.0, 0.0, 5.0])),
        width=128,
        height=96,
    )
    # (1, 2, 3) is (3, 2, 4) in the camera: u = 100 * 3/4 + 2 * 2/4 + 60, v = 90 * 2/4 + 40
    assert_close(camera.to_camera(torch.tensor([[1.0, 2, 3]])), torch.tensor([[3.0, 2, 4]]))
    assert_close(camera.project(torch.tensor([[1.0, 2, 3]])), torch.tensor([[136.0, 85.0]]))
    assert_close(camera.centres, torch.tensor([5.0, 0.0, 0.0]))


@pytest.mark.parametrize("distorted", [False, True])
@pytest.mark.parametrize("batch", BATCH_SHAPES)
@given(seed=SEEDS)
def test_unproject_inverts_project(batch: tuple[int, ...], distorted: bool, seed: int) -> None:
    generator = seeded(seed)
    cameras = random_cameras(generator, *batch, distorted=distorted)
    points = random_points(generator, *batch, 8)
    depth = cameras.to_camera(points)[..., 2]
    assert_close(cameras.unproject(cameras.project(points), depth), points)


@given(seed=SEEDS)
def test_project_inverts_unproject_on_the_pixel_grid(seed: int) -> None:
    generator = seeded(seed)
    cameras = random_cameras(generator, 3, distorted=True)
    pixels = uniform(generator, 3, 12, 2) * torch.tensor([WIDTH, HEIGHT])
    depth = uniform(generator, 3, 12, low=0.1, high=10.0)
    points = cameras.unproject(pixels, depth)
    assert_close(cameras.project(points), pixels)
    assert_close(cameras.to_camera(points)[..., 2], depth)


def test_shared_points_go_to_all_cameras(generator: torch.Generator) -> None:
    cameras, points = random_cameras(generator, 2, 3, distorted=True), random_points(generator, 4)
    pixels = cameras.project(points)
    assert pixels.shape == (2, 3, 4, 2)
    assert_close(pixels[1, 2], cameras[1, 2].project(points))


def test_points_not_in_front_are_nan_and_leave_gradients_finite(generator: torch.Generator) -> None:
    camera = random_cameras(generator)
    in_camera = torch.tensor([[0.1, 0.2, 1.0], [0.1, 0.2, 0.0], [0.1, 0.2, -1.0]], dtype=torch.float64)
    points = apply_rigid(camera.c2w, in_camera)
    points[1] = camera.centres  # at depth 0 to the last bit
    points.requires_grad_()
    pixels = camera.project(points)
    assert pixels.isnan().all(-1).tolist() == [False, True, True]
    pixels.nan_to_num(0).sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_c2w_and_centres(generator: torch.Generator) -> None:
    cameras = random_cameras(generator, 3)
    assert_close(cameras.c2w @ cameras.w2c, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    at_centre = cameras.to_camera(cameras.centres[:, None])
    assert_close(at_centre, torch.zeros_like(at_centre))


def test_field_of_view() -> None:
    camera = Cameras(K=pinhole_K(50.0, 512), w2c=torch.eye(4), width=512, height=256)
    expected = torch.tensor([50.0, 2 * math.degrees(math.atan(math.tan(math.radians(25)) / 2))])
    assert_close(camera.fov_deg, expected, atol=1e-4)


# ---- moved pixels


@pytest.mark.parametrize("distorted", [False, True])
@given(
    seed=SEEDS,
    left=st.integers(-20, 30),
    top=st.integers(-20, 25),
    width=st.integers(1, 80),
    height=st.integers(1, 80),
)
def test_crop_and_project_commute(distorted: bool, seed: int, left: int, top: int, width: int, height: int) -> None:
    generator = seeded(seed)
    cameras, points = random_cameras(generator, 2, distorted=distorted), random_points(generator, 2, 6)
    cropped = cameras.cropped(left, top, width, height)
    assert (cropped.width, cropped.height) == (width, height)
    assert_close(cropped.project(points), cameras.project(points) - torch.tensor([left, top]))


@pytest.mark.parametrize("distorted", [False, True])
@given(seed=SEEDS, width=st.integers(1, 200), height=st.integers(1, 200))
def test_resize_and_project_commute(distorted: bool, seed: int, width: int, height: int) -> None:
    generator = seeded(seed)
    cameras, points = random_cameras(generator, 2, distorted=distorted), random_points(generator, 2, 6)
    resized = cameras.resized(width, height)
    assert (resized.width, resized.height) == (width, height)
    scale = torch.tensor([width / WIDTH, height / HEIGHT], dtype=torch.float64)
    assert_close(resized.project(points), cameras.project(points) * scale)


def test_cropping_leaves_the_original_alone(generator: torch.Generator) -> None:
    cameras = random_cameras(generator, 2)
    before = cameras.K.clone()
    cameras.cropped(3, 4, 10, 10)
    assert_close(cameras.K, before, atol=0)


@given(seed=SEEDS)
def test_looking_at_is_one_homography_at_every_depth(seed: int) -> None:
    generator = seeded(seed)
    cameras = random_cameras(generator, 2)
    target = 0.3 * normal(generator, 2, 3)
    K = pinhole_K(30.0, 64).double()
    virtual = cameras.looking_at(target, K, 64)
    assert (virtual.width, virtual.height) == (64, 64)
    assert_close(virtual.centres, cameras.centres)
    assert_close(virtual.project(target[:, None])[:, 0], torch.full((2, 2), 32.0, dtype=torch.float64), atol=1e-7)

    rotation = virtual.w2c[:, :3, :3] @ cameras.w2c[:, :3, :3].mT
    homography = K @ rotation @ torch.inverse(cameras.K)
    pixels = torch.tensor([WIDTH / 2, HEIGHT / 2]) + normal(generator, 2, 9, 2)
    mapped = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1) @ homography.mT
    expected = mapped[..., :2] / mapped[..., 2:]
    for depth in (1e-2, 1.0, 1e3):
        points = cameras.unproject(pixels, torch.full((2, 9), depth, dtype=torch.float64))
        assert_close(virtual.project(points), expected, atol=1e-7)


def test_looking_at_undoes_distortion_and_keeps_names_and_upright(generator: torch.Generator) -> None:
    cameras = random_cameras(generator, 2, distorted=True, names=("a", "b"))
    virtual = cameras.looking_at(torch.zeros(3, dtype=torch.float64), pinhole_K(50.0, 32).double(), 32)
    assert virtual.distortion is None
    assert virtual.names == ("a", "b")
    raised = virtual.project(0.01 * Z[None])
    assert_close(raised[:, 0, 0], torch.full((2,), 16.0, dtype=torch.float64))
    assert (raised[:, 0, 1] < 16).all()  # world +Z is up, and +Y is down in the image


# ---- the world moves


@pytest.mark.parametrize("distorted", [False, True])
@given(seed=SEEDS)
def test_a_similarity_keeps_pixels_and_scales_depths(distorted: bool, seed: int) -> None:
    generator = seeded(seed)
    cameras, points = random_cameras(generator, 2, distorted=distorted), random_points(generator, 2, 6)
    new_from_world = random_similarity(generator)
    moved, moved_points = cameras.transformed(new_from_world), new_from_world.apply(points)
    assert_close(moved.project(moved_points), cameras.project(points))
    assert_close(moved.to_camera(moved_points), new_from_world.scale * cameras.to_camera(points), atol=1e-8)
    assert_close(moved.centres, new_from_world.apply(cameras.centres), atol=1e-8)
    assert_same(moved.transformed(new_from_world.inverse()), cameras)


def test_transformed_follows_the_cameras_dtype(generator: torch.Generator) -> None:
    cameras = random_cameras(generator, 2).to(torch.float32)
    moved = cameras.transformed(random_similarity(generator))
    assert moved.w2c.dtype == torch.float32


@given(seed=SEEDS)
def test_relative_to_makes_the_reference_the_world(seed: int) -> None:
    generator = seeded(seed)
    cameras, points = random_cameras(generator, 2, 3, distorted=True), random_points(generator, 2, 3, 5)
    reference = cameras[:, :1]
    relative = cameras.relative_to(reference)
    assert_close(relative.w2c[:, 0], torch.eye(4, dtype=torch.float64).expand(2, 4, 4))
    assert_close(relative.project(reference.to_camera(points)), cameras.project(points))


# ---- what is refused


def changed(tensor: torch.Tensor, index: tuple[int, ...], value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


GOOD = random_cameras(seeded(0), 3, distorted=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w2c": GOOD.w2c * torch.tensor([-1.0, 1, 1, 1])[:, None]}, "mirrored"),
        ({"w2c": changed(GOOD.w2c, (1, 0, 0), 2.0)}, "camera 1: the rotation is not orthonormal"),
        ({"w2c": changed(GOOD.w2c, (1, 0, 3), math.nan)}, "not finite"),
        ({"K": changed(GOOD.K, (2, 0, 2), math.inf)}, "not finite"),
        ({"distortion": changed(torch.zeros(3, 5), (2, 4), math.nan)}, "not finite"),
        ({"w2c": GOOD.w2c.mT}, "last row of w2c .* transposed"),
        ({"K": GOOD.K.mT}, "last row of K .* transposed"),
        ({"K": changed(GOOD.K, (0, 1, 0), 3.0)}, r"camera 0: K below its diagonal is \(3.0,\)"),
        ({"K": changed(GOOD.K, (0, 1, 1), -40.0)}, "positive diagonal"),
        ({"height": 0}, "at least one pixel, found 40x0"),
        ({"names": ("a", "b")}, "2 names for cameras of batch shape"),
    ],
)
def test_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"K": GOOD.K[:2]}, r"w2c has the shape \(3, 4, 4\), expected \(2, 4, 4\)"),
        ({"w2c": GOOD.w2c[:, :3]}, r"w2c has the shape \(3, 3, 4\), expected \(3, 4, 4\)"),
        ({"distortion": torch.zeros(3, 4)}, r"distortion has the shape \(3, 4\), expected \(3, 5\)"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_refuses_wrong_shapes(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **changes)


def test_cat_refuses_what_does_not_belong_together(generator: torch.Generator) -> None:
    pinhole, distorted = random_cameras(generator, 2), random_cameras(generator, 2, distorted=True)
    with pytest.raises(ValueError, match="different image sizes cannot be joined: 40x30, 20x30"):
        Cameras.cat([pinhole, pinhole.resized(20, 30)])
    with pytest.raises(ValueError, match="with and without distortion"):
        Cameras.cat([pinhole, distorted])
    for dim in (-1, 1):
        with pytest.raises(ValueError, match=f"no batch dimension {dim}"):
            Cameras.cat([pinhole, pinhole], dim=dim)
    with pytest.raises(ValueError, match=r"of batch shape \(\) have no batch dimension 0"):
        Cameras.cat([pinhole[0], pinhole[1]])


# ---- shape, names, storage


def test_cat_joins_in_order(generator: torch.Generator) -> None:
    a = random_cameras(generator, 2, distorted=True, names=("a", "b"))
    b = random_cameras(generator, 1, distorted=True, names=("c",))
    joined = Cameras.cat([a, b])
    assert joined.names == ("a", "b", "c")
    assert_same(joined[:2], a)
    assert_same(joined[2:], b)
    assert Cameras.cat([a, replace(b, names=())]).names == ()
    rows = Cameras.cat([a.reshape(1, 2), a.reshape(1, 2)], dim=1)
    assert_same(rows[0, 2:], replace(a, names=()))


def test_indexing_takes_the_names_along(generator: torch.Generator) -> None:
    cameras = random_cameras(generator, 4, distorted=True, names=("a", "b", "c", "d"))
    assert cameras[1:3].names == ("b", "c")
    assert cameras[[3, 0]].names == ("d", "a")
    assert cameras[torch.tensor([True, False, True, False])].names == ("a", "c")
    assert cameras[torch.tensor([2, 2])].names == ("c", "c")
    assert cameras[...].names == cameras.names
    assert cameras[2].names == ()
    assert_close(cameras[[3, 0]].w2c, cameras.w2c[[3, 0]], atol=0)


def test_indexing_stays_within_the_batch(generator: torch.Generator) -> None:
    cameras = random_cameras(generator, 2, 3)
    assert cameras[..., 1].batch_shape == (2,)
    assert_close(cameras[..., 1].K, cameras.K[:, 1], atol=0)
    assert cameras[None, 0].batch_shape == (1, 3)
    assert len(list(cameras[0])) == 3
    with pytest.raises(IndexError):
        cameras[0, 0, 0]
    with pytest.raises(IndexError):
        cameras[0][0, 1]


def test_reshape_and_length(generator: torch.Generator) -> None:
    cameras = random_cameras(generator, 4, distorted=True, names=("a", "b", "c", "d"))
    grid = cameras.reshape(2, 2)
    assert (grid.batch_shape, grid.names, len(grid)) == ((2, 2), (), 2)
    assert_same(grid.reshape(-1), replace(cameras, names=()))
    assert cameras.reshape(4).names == cameras.names
    with pytest.raises(TypeError, match="no length"):
        len(cameras[0])


def test_to_casts_every_tensor(generator: torch.Generator) -> None:
    single = random_cameras(generator, 2, distorted=True).to(torch.float32)
    assert single.distortion is not None
    assert {single.K.dtype, single.w2c.dtype, single.distortion.dtype} == {torch.float32}


def test_float32_projects_millimetres_to_a_hundredth_of_a_pixel(generator: torch.Generator) -> None:
    K = torch.tensor([[1640.0, -5.8, 600.0], [0, 1640.0, 500.0], [0, 0, 1]], dtype=torch.float64)
    w2c = look_at(torch.tensor([-199.5, -129.3, 63.4], dtype=torch.float64), Z * 60)
    camera = Cameras(K=K, w2c=w2c, width=1152, height=1024)
    points = torch.tensor([47.0, 49.0, 60.0]) + 40 * normal(generator, 50, 3)
    single = camera.to(torch.float32).project(points.float())
    assert_close(single.double(), camera.project(points), atol=1e-2)
