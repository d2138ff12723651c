import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from samples import normal, random_gaussians, seeded, uniform
from scipy.spatial import KDTree
from torch.nn import functional as F

from mouselift.errors import InputError
from mouselift.export import mesh as mesh_module
from mouselift.export.mesh import Mesh, to_mesh
from mouselift.export.mesh_file import write_mesh
from mouselift.geometry import Gaussians
from mouselift.geometry.sh import dc_from_rgb

CENTRE, RADIUS = torch.tensor([3.0, -20.0, 7.0]), 40.0


def ball(count: int = 8000, opacity: float = 0.9) -> Gaussians:
    """A solid ball; its colours tell the direction from its centre."""
    generator = seeded(0)
    directions = F.normalize(normal(generator, count, 3), dim=-1)
    radii = RADIUS * uniform(generator, count, 1) ** (1 / 6)  # densest near the surface
    return Gaussians(
        means=(directions * radii).float() + CENTRE,
        quats=F.normalize(normal(generator, count, 4), dim=-1).float(),
        scales=torch.full((count, 3), 0.035 * RADIUS),
        opacities=torch.full((count,), opacity),
        sh=dc_from_rgb(0.5 + 0.4 * directions).float()[:, None],
    )


@pytest.fixture(scope="module")
def ball_mesh() -> Mesh:
    return to_mesh(ball(), resolution=48, num_views=16, image_size_px=128)


def test_a_ball_of_gaussians_is_a_closed_sphere_of_its_size(ball_mesh: Mesh) -> None:
    mesh = trimesh.Trimesh(ball_mesh.vertices, ball_mesh.faces, process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.body_count == 1
    sphere = 4 / 3 * np.pi * RADIUS**3
    assert ball_mesh.volume() == pytest.approx(mesh.volume, rel=1e-4)  # positive: faces look outside
    assert ball_mesh.volume() == pytest.approx(sphere, rel=0.05)
    distances = np.linalg.norm(ball_mesh.vertices - CENTRE.numpy(), axis=1) - RADIUS
    assert np.abs(distances).max() < 0.08 * RADIUS  # a voxel is 0.049 radii
    assert np.sqrt(np.square(distances).mean()) < 0.03 * RADIUS
    sphere_points = trimesh.creation.icosphere(3, RADIUS).vertices + CENTRE.numpy()
    assert KDTree(ball_mesh.vertices).query(sphere_points)[0].max() < 0.08 * RADIUS  # nothing of it is missing


def test_vertices_have_the_colour_of_what_is_seen_there(ball_mesh: Mesh) -> None:
    directions = ball_mesh.vertices - CENTRE.numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert np.abs(ball_mesh.colours - (0.5 + 0.4 * directions)).mean() < 0.03


def test_hollows_are_filled_and_specks_dropped() -> None:
    """A shell, seen from outside only, is solid; what is small and apart goes."""
    solid = ball(8000)
    outward = F.normalize(solid.means - CENTRE, dim=-1)
    shell = replace(solid, means=CENTRE + RADIUS * outward)
    speck = solid.select(torch.arange(len(solid)) == 0)
    speck = replace(speck, means=CENTRE[None] + torch.tensor([[1.6 * RADIUS, 0, 0]]))
    found = to_mesh(Gaussians.cat([shell, speck]), resolution=40, num_views=12, image_size_px=96)
    mesh = trimesh.Trimesh(found.vertices, found.faces, process=False)
    assert mesh.is_watertight
    assert mesh.body_count == 1
    assert found.volume() == pytest.approx(
        4 / 3 * np.pi * RADIUS**3, rel=0.2
    )  # the shell's skin lies outside its centres


def test_a_thin_tail_is_kept_and_stray_gaussians_cost_no_resolution() -> None:
    """A tail of 3 % of the length in diameter, beside a speck far away that is dropped."""
    body = ball(6000)
    along = torch.linspace(0, 2.5 * RADIUS, 600)
    count = len(along)
    tail = Gaussians(
        means=CENTRE + torch.stack([RADIUS * 0.95 + along, torch.zeros(count), torch.zeros(count)], dim=-1),
        quats=torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4).contiguous(),
        scales=torch.full((count, 3), 0.04 * RADIUS),
        opacities=torch.full((count,), 0.9),
        sh=torch.zeros(count, 1, 3),
    )
    speck = tail.select(torch.arange(count) < 2)
    speck = replace(speck, means=speck.means + torch.tensor([0, 3 * RADIUS, 0]))
    scene = Gaussians.cat([body, tail, speck])
    found = to_mesh(scene, resolution=96, num_views=16, image_size_px=160)
    mesh = trimesh.Trimesh(found.vertices, found.faces, process=False)
    assert mesh.is_watertight
    assert mesh.body_count == 1
    end = float(CENTRE[0]) + 3.45 * RADIUS
    assert float(found.vertices[:, 0].max()) == pytest.approx(end, abs=0.15 * RADIUS)
    assert float(found.vertices[:, 1].max()) < float(CENTRE[1]) + 1.2 * RADIUS
    middle = np.abs(found.vertices[:, 0] - float(CENTRE[0]) - 2.5 * RADIUS) < 0.2 * RADIUS
    radii = np.linalg.norm(found.vertices[middle, 1:] - CENTRE.numpy()[1:], axis=1)
    assert 0.04 * RADIUS < radii.mean() < 0.16 * RADIUS


def test_there_must_be_a_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"opacity 0\.1 or more, found none"):
        to_mesh(ball(50, opacity=0.05))
    with pytest.raises(InputError, match="expected an opaque surface"):
        to_mesh(ball(3, opacity=0.2), resolution=16, num_views=6, image_size_px=32)
    with pytest.raises(ValueError, match="one scene"):
        to_mesh(random_gaussians(seeded(0), 2, count=3).to(torch.float32))
    monkeypatch.setattr(mesh_module, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"mouselift\[mesh\]"):
        to_mesh(ball(50))


# ---- files

TETRAHEDRON = Mesh(
    vertices=np.array([[0, 0, 0], [20, 0, 0], [0, 30, 0], [0, 0, 40]], dtype=np.float32),
    faces=np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int32),
    colours=np.array([[0, 0.5, 1], [0.02, 0.1, 0.2], [1, 1, 1], [0.7, 0.6, 0.5]], dtype=np.float32),
)


@pytest.mark.parametrize(("units", "scale"), [("scene", 1.0), ("mm", 1e-3)])
def test_glb_stands_upright_in_metres_elsewhere(tmp_path: Path, units: str, scale: float) -> None:
    write_mesh(TETRAHEDRON, tmp_path / "a.glb", units=units)
    scene = trimesh.load_scene(tmp_path / "a.glb")
    assert isinstance(scene, trimesh.Scene)
    (geometry,) = scene.geometry.values()
    np.testing.assert_array_equal(geometry.vertices, TETRAHEDRON.vertices)  # the file's own numbers
    placed = scene.to_mesh()
    np.testing.assert_allclose(placed.vertices, scale * TETRAHEDRON.vertices[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6)
    assert placed.is_watertight
    assert placed.volume == pytest.approx(scale**3 * TETRAHEDRON.volume(), rel=1e-5)


def test_glb_colours_are_linear(tmp_path: Path) -> None:
    write_mesh(TETRAHEDRON, tmp_path / "a.glb")
    data = (tmp_path / "a.glb").read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document = json.loads(data[20 : 20 + length])
    view = document["bufferViews"][document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    found = np.frombuffer(data[28 + length + view["byteOffset"] :], dtype="<f4", count=12).reshape(4, 3)
    expected = [[0, 0.2140, 1], [0.00155, 0.01002, 0.03310], [1, 1, 1], [0.4480, 0.3185, 0.2140]]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_obj_is_read_elsewhere(tmp_path: Path) -> None:
    write_mesh(TETRAHEDRON, tmp_path / "a.obj")
    found = trimesh.load_mesh(tmp_path / "a.obj", process=False)
    np.testing.assert_allclose(found.vertices, TETRAHEDRON.vertices, rtol=1e-6)
    assert found.is_watertight
    assert found.volume == pytest.approx(TETRAHEDRON.volume())
    np.testing.assert_allclose(found.visual.vertex_colors[:, :3] / 255, TETRAHEDRON.colours, atol=0.005)


def test_unknown_mesh_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.glb, \.obj for a mesh, found '\.stl'"):
        write_mesh(TETRAHEDRON, tmp_path / "a.stl")
    assert list(tmp_path.iterdir()) == []
