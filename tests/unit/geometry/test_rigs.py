import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mouselift.geometry import Cameras
from mouselift.geometry.rigs import azimuth_elevation_deg, facelift_rig, mouse_rig, orbit, pinhole_K, sphere, turntable

S = 1.9092  # 2.7 / sqrt(2), as the rig's file rounds it
FACELIFT = {  # positions in the order in which FaceLift feeds its views
    "front": (0, -2.7, 0),
    "front_right": (-S, -S, 0),
    "right": (-2.7, 0, 0),
    "back": (0, 2.7, 0),
    "left": (2.7, 0, 0),
    "front_left": (S, -S, 0),
}


def assert_close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def assert_all_look_at_the_origin(cameras: Cameras, radius: float) -> None:
    origin = cameras.to_camera(torch.zeros(1, 3))[:, 0]
    assert_close(origin, torch.tensor([0.0, 0.0, radius]).expand(len(cameras), 3))


def test_facelift_rig_is_the_published_table() -> None:
    cameras = facelift_rig()
    assert cameras.names == tuple(FACELIFT)
    assert_close(cameras.centres, torch.tensor(list(FACELIFT.values())), atol=1e-4)
    assert_all_look_at_the_origin(cameras, 2.7)
    assert (cameras.width, cameras.height) == (512, 512)
    assert_close(cameras.K[:, 0, 0], torch.full((6,), 548.9937744140625), atol=1e-4)
    assert_close(cameras.K[:, 1, 1], torch.full((6,), 548.9937744140625), atol=1e-4)
    assert_close(cameras.K[:, :2, 2], torch.full((6, 2), 256.0))
    down = cameras.w2c[:, 1, :3]
    assert_close(down, torch.tensor([0.0, 0.0, -1.0]).expand(6, 3))  # image down is world -z


def test_facelift_rig_shows_2_518_units_at_the_origin() -> None:
    front = facelift_rig()[0]
    edge = front.project(torch.tensor([[2.518 / 2, 0, 0]]))
    assert edge[0, 0] == pytest.approx(512, abs=0.05)


@given(azimuth=st.floats(-180, 180), elevation=st.floats(-60, 60))
def test_facelift_rig_turns_with_its_front(azimuth: float, elevation: float) -> None:
    azimuths, elevations = azimuth_elevation_deg(facelift_rig(azimuth, elevation_deg=elevation))
    offsets = torch.remainder(azimuths - azimuth + 180, 360) - 180
    offsets = torch.where(offsets < -179.9, -offsets, offsets)
    assert_close(offsets, torch.tensor([0.0, -45, -90, 180, 90, 45]), atol=1e-2)
    assert_close(elevations, torch.full((6,), elevation), atol=1e-3)


def test_mouse_rig_has_facelifts_azimuths_from_above_and_closer() -> None:
    cameras, wanted = mouse_rig(30.0, size_px=64), facelift_rig(30.0)
    azimuths, elevations = azimuth_elevation_deg(cameras)
    assert_close(azimuths, azimuth_elevation_deg(wanted)[0], atol=1e-3)
    assert_close(elevations, torch.full((6,), 20.0), atol=1e-3)
    assert_close(cameras.fov_deg, torch.full((6, 2), 30.0), atol=1e-3)
    assert_all_look_at_the_origin(cameras, 2.7)
    assert (cameras.names, cameras.width, cameras.height) == (wanted.names, 64, 64)


def test_turntable_goes_once_around_counter_clockwise() -> None:
    cameras = turntable(12, start_azimuth_deg=10.0, elevation_deg=20.0, radius=3.0)
    azimuths, elevations = azimuth_elevation_deg(cameras)
    assert_close(torch.remainder(azimuths, 360), 10.0 + 30.0 * torch.arange(12), atol=1e-3)
    assert_close(elevations, torch.full((12,), 20.0), atol=1e-3)
    assert_close(cameras.centres.norm(dim=-1), torch.full((12,), 3.0))
    assert_all_look_at_the_origin(cameras, 3.0)


@pytest.mark.parametrize("count", [16, 50, 200])
def test_sphere_is_even(count: int) -> None:
    cameras = sphere(count, radius=2.0)
    assert_all_look_at_the_origin(cameras, 2.0)
    directions = cameras.centres.double() / 2
    assert directions.mean(0).norm() < 0.05
    second_moment = directions.mT @ directions / count
    assert_close(second_moment, torch.eye(3, dtype=torch.float64) / 3, atol=0.03)
    cosines = directions @ directions.mT - 2 * torch.eye(count, dtype=torch.float64)
    nearest_deg = torch.rad2deg(cosines.amax(-1).acos())
    # Circles that tile the sphere with hexagons would stand this far apart; no two may come much closer.
    ideal_deg = math.degrees(math.sqrt(8 * math.pi / (math.sqrt(3) * count)))
    assert nearest_deg.min() > 0.7 * ideal_deg
    assert nearest_deg.max() < 1.2 * ideal_deg


def test_orbit_takes_one_elevation_for_each_camera_and_names() -> None:
    azimuths, elevations = azimuth_elevation_deg(orbit([0.0, 90.0], [10.0, -30.0], names=("a", "b")))
    assert_close(azimuths, torch.tensor([0.0, 90.0]), atol=1e-3)
    assert_close(elevations, torch.tensor([10.0, -30.0]), atol=1e-3)
    assert orbit([0.0, 90.0], names=("a", "b"))[1:].names == ("b",)


def test_orbit_overhead_is_a_proper_camera() -> None:
    camera = orbit([37.0], 90.0)
    assert_close(camera.centres, torch.tensor([[0.0, 0.0, 2.7]]))
    assert_all_look_at_the_origin(camera, 2.7)


@given(fov_deg=st.floats(1, 150), size_px=st.integers(1, 2000))
def test_pinhole_K_spans_the_field_of_view(fov_deg: float, size_px: int) -> None:
    camera = Cameras(K=pinhole_K(fov_deg, size_px), w2c=torch.eye(4), width=size_px, height=size_px)
    assert_close(camera.fov_deg, torch.full((2,), fov_deg), atol=1e-3)
    rim = torch.tensor([[math.tan(math.radians(fov_deg / 2)), 0.0, 1.0]])
    assert camera.project(rim)[0, 0] == pytest.approx(size_px, rel=1e-5)
