"""What each format means, with values worked out by hand, and how it is found."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mouselift import read_cameras as public_read_cameras
from mouselift.data.calibration import read_calibration, read_cameras
from mouselift.data.layout import write_sample
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Similarity, Views
from mouselift.geometry.transforms import look_at, quat_to_rotmat


def test_the_public_entry() -> None:
    assert public_read_cameras is read_cameras


def dump(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content))
    return path


K = [[1000.0, 0, 640], [0, 1100, 512], [0, 0, 1]]
TURN = [[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    "names",
    [
        ("camera_matrix", "distortion_coefficients", "R", "T"),
        ("camera_matrix", "distortion_coefs", "rotation", "translation"),  # multicam-calibration
        ("K", "dist", "R", "t"),
        ("cameraMatrix", "distCoeffs", "rotation_matrix", "tvec"),
    ],
)
@pytest.mark.parametrize("shape", ["one", "mapping", "list", "under cameras", "folder"])
def test_opencv_under_its_many_names(tmp_path: Path, names: tuple[str, ...], shape: str) -> None:
    camera = dict(zip(names, (K, [0.1, 0.2, 0.3, 0.4], TURN, [[1], [2], [3]]), strict=True))
    if shape == "one":
        path = dump(tmp_path / "left.yaml", camera)
    elif shape == "folder":
        path = dump(tmp_path / "left.json", camera).parent
    else:
        several = [camera | {"name": "left"}] if shape == "list" else {"left": camera}
        path = dump(tmp_path / "all.json", {"cameras": several, "error": 0.2} if "under" in shape else several)
    calibration = read_calibration(path)
    assert (calibration.format, calibration.names) == ("opencv", ("left",))
    (found,) = calibration.cameras
    assert found.K.tolist() == [[1000, 0, 640.5], [0, 1100, 512.5], [0, 0, 1]]
    assert found.w2c.tolist() == [[0, 0, 1, 1], [1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1]]
    assert found.distortion is not None
    assert found.distortion.tolist() == [0.1, 0.2, 0.3, 0.4, 0]


def test_opencv_sizes_come_apart_or_together(tmp_path: Path) -> None:
    camera = {"K": K, "R": TURN, "T": [1, 2, 3]}
    rig = {"a": camera | {"image_size": [64, 48]}, "b": camera | {"image_width": 64, "image_height": 48}}
    cameras = read_cameras(dump(tmp_path / "rig.yaml", rig))
    assert (cameras.width, cameras.height, cameras.names) == (64, 48, ("a", "b"))


def test_ros_camera_info_has_plain_mappings_for_matrices(tmp_path: Path) -> None:
    flat = {"rows": 3, "cols": 3, "data": np.ravel(K).tolist()}
    camera = {"camera_name": "left", "camera_matrix": flat, "R": TURN, "T": [1, 2, 3]}
    assert read_calibration(dump(tmp_path / "info.yaml", camera)).cameras[0].K[1].tolist() == [0, 1100, 512.5]


FRAME = {"fl_x": 1000.0, "fl_y": 1100.0, "cx": 640.0, "cy": 512.0, "w": 1280, "h": 1024}


def test_nerfstudio_cameras_look_along_minus_z(tmp_path: Path) -> None:
    """At (0, 0, 5) with the axes of the world, such a camera sees the origin in its centre and +y above it."""
    c2w = np.eye(4)
    c2w[2, 3] = 5
    path = dump(tmp_path / "t.json", {**FRAME, "frames": [{"file_path": "a/0.png", "transform_matrix": c2w.tolist()}]})
    camera = read_cameras(path)
    pixels = camera.project(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64))[0]
    assert camera.names == ("0",)
    assert pixels.tolist() == [[640, 512], [840, 512], [640, 292]]


def test_nerfstudio_undoes_what_was_applied_to_the_world(tmp_path: Path) -> None:
    original = np.eye(4)
    original[:3, :3] = TURN
    original[:3, 3] = [1, 2, 3]
    applied = np.eye(4)
    applied[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    applied[:3, 3] = [4, 5, 6]
    moved = applied @ original
    moved[:3, 3] *= 0.25

    def read(c2w: np.ndarray, **top: Any) -> torch.Tensor:
        frames = [FRAME | {"file_path": "0.png", "transform_matrix": c2w.tolist()}]
        return read_calibration(dump(tmp_path / "t.json", {**top, "frames": frames})).cameras[0].w2c

    expected = read(original)
    torch.testing.assert_close(read(moved, applied_transform=applied[:3].tolist(), applied_scale=0.25), expected)
    assert not torch.allclose(read(moved), expected)


def test_blender_scenes_have_an_angle_of_view(tmp_path: Path) -> None:
    scene = {
        "camera_angle_x": math.radians(90),
        "w": 800,
        "h": 600,
        "frames": [{"transform_matrix": np.eye(4).tolist()}],
    }
    camera = read_calibration(dump(tmp_path / "transforms.json", scene)).cameras[0]
    torch.testing.assert_close(camera.K, torch.tensor([[400.0, 0, 400], [0, 400, 300], [0, 0, 1]]).double())


def test_colmap_poses_are_quaternions_and_points_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("# comment\n7 SIMPLE_RADIAL 1280 1024 1000 640 512 0.1\n")
    (tmp_path / "images.txt").write_text(
        "# comment\n"
        "1 0.5 0.5 0.5 0.5 1 2 3 7 left camera/a b.png\n\n"
        "2 1 0 0 0 4 5 6 7 right/b.png\n1.0 2.0 -1 3.0 4.0 17\n"
    )
    calibration = read_calibration(tmp_path)
    assert (calibration.format, calibration.names) == ("colmap", ("a b", "b"))
    first, second = calibration.cameras
    assert first.K.tolist() == [[1000, 0, 640], [0, 1000, 512], [0, 0, 1]]
    torch.testing.assert_close(first.w2c[:3, :3], quat_to_rotmat(torch.full((4,), 0.5, dtype=torch.float64)))
    assert first.w2c[:3, 3].tolist() == [1, 2, 3]
    assert first.distortion is not None
    assert first.distortion.tolist() == [0.1, 0, 0, 0, 0]
    assert second.w2c[:3, 3].tolist() == [4, 5, 6]


def test_pictures_of_one_name_keep_their_folders(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 64 48 100 100 32 24\n")
    (tmp_path / "images.txt").write_text("1 1 0 0 0 1 2 3 1 left/0.png\n\n2 1 0 0 0 4 5 6 1 right/0.png\n\n")
    assert read_calibration(tmp_path).names == ("left/0.png", "right/0.png")


def test_the_cameras_of_a_sample_come_back_to_the_world_in_mm(tmp_path: Path) -> None:
    eyes = torch.tensor([[300.0, 0, 100], [0, 300, 100]], dtype=torch.float64)
    world = Cameras(
        K=torch.tensor([[100.0, 2, 16], [0, 100, 16], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3),
        w2c=look_at(eyes, torch.tensor([50.0, 60, 30], dtype=torch.float64)),
        width=32,
        height=32,
        names=("front", "left"),
    )
    scene_from_world = Similarity(
        scale=torch.tensor(0.01, dtype=torch.float64),
        rotation=torch.tensor(TURN, dtype=torch.float64),
        translation=torch.tensor([-0.5, 0.2, 0.1], dtype=torch.float64),
    )
    views = Views(images=torch.zeros(2, 3, 32, 32), masks=torch.zeros(2, 1, 32, 32), cameras=world)
    write_sample(
        tmp_path / "sample",
        Views(images=views.images, masks=views.masks, cameras=world.transformed(scene_from_world)),
        sample_id="a",
        frame_index=0,
        scene_from_world=scene_from_world,
    )
    found = read_cameras(tmp_path / "sample")
    assert found.names == ("front", "left")
    torch.testing.assert_close(found.w2c, world.w2c, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.K, world.K)


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    scene = dump(tmp_path / "scene.json", {**FRAME, "frames": [{"transform_matrix": np.eye(4).tolist()}]})
    shutil.move(scene, tmp_path / "scene.toml")
    assert read_calibration(tmp_path / "scene.toml").format == "nerfstudio"


def test_two_calibrations_in_a_folder_are_a_question(tmp_path: Path) -> None:
    dump(tmp_path / "transforms.json", {})
    dump(tmp_path / "calibration.json", {})
    with pytest.raises(
        InputError, match=r"expected one calibration, found calibration.json, transforms.json; name one"
    ):
        read_calibration(tmp_path)


def test_units_scale_translations_in_every_text_format(tmp_path: Path) -> None:
    frames = [{"transform_matrix": np.eye(4).tolist()}]
    frames[0]["transform_matrix"][2][3] = 0.3
    path = dump(tmp_path / "scene.json", {**FRAME, "frames": frames})
    assert read_cameras(path, mm_per_unit=1000).centres.tolist() == [[0, 0, 300]]
