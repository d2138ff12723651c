"""What is written is read again, in every format that is written; what a format cannot hold is refused."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mouselift.data.calibration import WRITERS, CalibratedCamera, Calibration, read_calibration
from mouselift.data.calibration.parsing import intrinsics, rotation_from_vector, vector_from_rotation
from mouselift.errors import InputError
from mouselift.geometry.transforms import rigid

FILES = {
    "facelift": "cameras.json",
    "anipose": "calibration.toml",
    "opencv": "calibration.yaml",
    "opencv json": "calibration.json",
    "opencv folder": "calibration",
    "jarvis": "jarvis",
    "nerfstudio": "transforms.json",
    "colmap": "sparse",
}
HOLDS_SKEW = ("facelift", "jarvis")
HOLDS_DISTORTION = tuple(name for name in FILES if name != "facelift")
HOLDS_SIZE = tuple(name for name in FILES if name != "jarvis")
NEEDS_SIZE = ("facelift", "anipose", "nerfstudio", "colmap")


def write(name: str, folder: Path, calibration: Calibration, mm_per_unit: float = 1.0) -> Path:
    path = folder / FILES[name]
    WRITERS[name.split()[0]](path, calibration, mm_per_unit=mm_per_unit)
    return path


def calibration_of(seed: int, *, skew: bool, distortion: str, count: int = 3) -> Calibration:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    cameras = []
    for i in range(count):
        lens = {"none": None, "k2": 0.1 * draw(5) * torch.tensor([1.0, 1, 1, 1, 0]), "k3": 0.1 * draw(5)}[distortion]
        fx, fy, cx, cy = (1000 + 50 * draw(4)).tolist()
        cameras.append(
            CalibratedCamera(
                name=f"cam{i}",
                K=intrinsics(fx, fy, cx, cy, float(draw(1)) if skew else 0.0),
                w2c=rigid(rotation_from_vector(2 * draw(3)), 300 * draw(3)),
                distortion=lens,
                width=1280,
                height=1024,
            )
        )
    return Calibration(cameras=tuple(cameras), format="test", source=Path("random"))


def assert_close(found: Calibration, expected: Calibration, *, sizes: bool) -> None:
    assert found.names == expected.names
    for a, b in zip(found.cameras, expected.cameras, strict=True):
        torch.testing.assert_close(a.K, b.K, rtol=0, atol=1e-9)
        torch.testing.assert_close(a.w2c, b.w2c, rtol=0, atol=1e-9)
        assert (a.distortion is None) == (b.distortion is None)
        if a.distortion is not None:
            torch.testing.assert_close(a.distortion, b.distortion, rtol=0, atol=1e-15)
        assert (a.width, a.height) == ((b.width, b.height) if sizes else (None, None))


@pytest.mark.parametrize("distortion", ["none", "k2", "k3"])
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=6)
@given(seed=st.integers(0, 2**31), mm_per_unit=st.sampled_from([1.0, 10.0, 1000.0]))
def test_written_cameras_are_read_again(name: str, distortion: str, seed: int, mm_per_unit: float) -> None:
    if distortion != "none" and name not in HOLDS_DISTORTION:
        return
    calibration = calibration_of(seed, skew=name in HOLDS_SKEW, distortion=distortion)
    with TemporaryDirectory() as folder:
        path = write(name, Path(folder), calibration, mm_per_unit)
        found = read_calibration(path, mm_per_unit=mm_per_unit)
    assert found.format == name.split()[0]  # found by the content
    assert_close(found, calibration, sizes=name in HOLDS_SIZE)


@pytest.mark.parametrize("name", [name for name in FILES if name not in HOLDS_SKEW])
def test_skew_is_refused_where_it_would_be_lost(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"camera 'cam0': .* holds no skew, found .* px"):
        write(name, tmp_path, calibration_of(0, skew=True, distortion="none"))
    assert not list(tmp_path.iterdir())


def test_distortion_is_refused_where_it_would_be_lost(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no lens distortion"):
        write("facelift", tmp_path, calibration_of(0, skew=False, distortion="k2"))


@pytest.mark.parametrize("name", NEEDS_SIZE)
def test_an_unknown_size_is_refused_where_it_must_be_written(name: str, tmp_path: Path) -> None:
    known = calibration_of(0, skew=False, distortion="none")
    cameras = tuple(replace(camera, width=None, height=None) for camera in known.cameras)
    with pytest.raises(InputError, match=r"this calibration does not know"):
        write(name, tmp_path, replace(known, cameras=cameras))


@pytest.mark.parametrize(
    ("name", "camera", "message"),
    [
        ("opencv folder", "../up", "names that can name files, found '../up'"),
        ("jarvis", ".hidden", "names that can name files, found '.hidden'"),
        ("colmap", "left camera", "without spaces"),  # COLMAP itself cuts them there
    ],
)
def test_a_name_that_a_format_cannot_hold_is_refused(name: str, camera: str, message: str, tmp_path: Path) -> None:
    known = calibration_of(0, skew=False, distortion="none", count=1)
    with pytest.raises(InputError, match=message):
        write(name, tmp_path, replace(known, cameras=(replace(known.cameras[0], name=camera),)))


@pytest.mark.parametrize("name", ["anipose", "opencv", "opencv json", "facelift"])
def test_names_with_quotes_and_other_letters_survive(name: str, tmp_path: Path) -> None:
    known = calibration_of(0, skew=False, distortion="none", count=1)
    odd = replace(known, cameras=(replace(known.cameras[0], name='C:\\"ä#\n'),))
    assert read_calibration(write(name, tmp_path, odd)).names == odd.names


@given(vector=st.lists(st.floats(-1.8, 1.8), min_size=3, max_size=3))
def test_rotation_vectors_invert_rotations(vector: list[float]) -> None:
    expected = torch.tensor(vector, dtype=torch.float64)
    torch.testing.assert_close(vector_from_rotation(rotation_from_vector(expected)), expected, rtol=0, atol=1e-9)


def test_rotation_vectors_are_opencvs() -> None:
    vector = torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64)
    expected = torch.from_numpy(cv2.Rodrigues(vector.numpy())[0])
    torch.testing.assert_close(rotation_from_vector(vector), expected, rtol=0, atol=1e-12)


def opencv_reads(path: Path) -> Callable[[str], np.ndarray]:
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    return lambda key: storage.getNode("cameras").at(0).getNode(key).mat()


def test_opencv_reads_what_is_written_for_it(tmp_path: Path) -> None:
    calibration = calibration_of(0, skew=False, distortion="k3")
    camera = calibration.cameras[0]
    read = opencv_reads(write("opencv", tmp_path, calibration))
    expected = camera.K.clone()
    expected[:2, 2] -= 0.5  # OpenCV counts from (0, 0)
    assert read("camera_matrix").tolist() == expected.tolist()
    assert read("R").tolist() == camera.w2c[:3, :3].tolist()
    assert read("T").tolist() == camera.w2c[:3, 3:].tolist()
    assert camera.distortion is not None
    assert read("distortion_coefficients").tolist() == [camera.distortion.tolist()]


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_what_opencv_writes_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"top.{suffix}"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    K = np.array([[1e3, 0, 640], [0, 1e3, 1e-5], [0, 0, 1]])
    storage.write("image_width", 1280)
    storage.write("image_height", 1024)
    storage.write("camera_matrix", K)
    storage.write("distortion_coefficients", np.array([[0.1, 1e-7, 0, 0]]))
    storage.write("rvec", np.array([[0.1], [0.2], [0.3]]))
    storage.write("tvec", np.array([[1.0], [2], [300]]))
    storage.release()
    camera = read_calibration(path).cameras[0]
    assert (camera.name, camera.width, camera.height) == ("top", 1280, 1024)
    assert camera.K.tolist() == [[1000, 0, 640.5], [0, 1000, 0.50001], [0, 0, 1]]
    assert camera.distortion is not None
    assert camera.distortion.tolist() == [0.1, 1e-7, 0, 0, 0]
    torch.testing.assert_close(vector_from_rotation(camera.w2c[:3, :3]), torch.tensor([0.1, 0.2, 0.3]).double())


def test_jarvis_is_written_transposed(tmp_path: Path) -> None:
    """JARVIS projects [x 1] [R; T] K; with its values that must give our pixels, less the half."""
    calibration = calibration_of(3, skew=True, distortion="none", count=1)
    storage = cv2.FileStorage(str(write("jarvis", tmp_path, calibration) / "cam0.yaml"), cv2.FILE_STORAGE_READ)
    R, T, K = (storage.getNode(key).mat() for key in ("R", "T", "intrinsicMatrix"))
    camera = calibration.to_cameras()
    inside = camera.unproject(torch.tensor([[[400.0, 300.0]]]).double(), torch.tensor([[250.0]]).double())[0]
    row = np.concatenate([inside.numpy(), [[1.0]]], axis=1) @ np.concatenate([R, T.T]) @ K
    assert row[0, :2] / row[0, 2] + 0.5 == pytest.approx([400, 300], abs=1e-9)


@pytest.mark.parametrize("distortion", ["none", "k2", "k3"])
def test_binary_colmap_models_are_read(tmp_path: Path, distortion: str) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    calibration = calibration_of(5, skew=False, distortion=distortion)
    text = write("colmap", tmp_path, calibration)
    binary = tmp_path / "binary"
    binary.mkdir()
    pycolmap.Reconstruction(text).write_binary(binary)
    assert (binary / "images.bin").is_file()
    found = read_calibration(binary)
    assert_close(found, calibration, sizes=True)


@pytest.fixture
def binary_model(tmp_path: Path) -> Path:
    pycolmap = pytest.importorskip("pycolmap")
    binary = tmp_path / "sparse" / "0"
    binary.mkdir(parents=True)
    calibration = calibration_of(5, skew=False, distortion="none")
    pycolmap.Reconstruction(write("colmap", tmp_path / "text", calibration)).write_binary(binary)
    return binary


def test_the_points_of_a_binary_model_do_not_matter(binary_model: Path) -> None:
    (binary_model / "points3D.bin").write_bytes(b"\xff" * 50)  # read by COLMAP, this would fill the memory
    found = read_calibration(binary_model.parents[1])  # the project's folder
    assert found.names == ("cam0", "cam1", "cam2")


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_truncated_binary_models_are_one_clear_error(binary_model: Path, name: str) -> None:
    content = (binary_model / name).read_bytes()
    for length in [*range(9, len(content), 7), len(content) - 1]:
        (binary_model / name).write_bytes(content[:length])
        with pytest.raises(InputError, match=r"expected (a COLMAP model, found|3 \w+, found a file that ends)"):
            read_calibration(binary_model)


def test_pycolmap_projects_as_we_do(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    calibration = calibration_of(5, skew=False, distortion="k3", count=1)
    model = pycolmap.Reconstruction(write("colmap", tmp_path, calibration))
    ours = calibration.to_cameras()
    pixel = torch.tensor([[[900.0, 1100.0]]], dtype=torch.float64)
    point = ours.unproject(pixel, torch.full((1, 1), 500.0, dtype=torch.float64))[0, 0].numpy()
    image = next(iter(model.images.values()))
    assert image.project_point(point) == pytest.approx([900, 1100], abs=1e-6)


@pytest.mark.parametrize(
    ("module", "file", "content"),
    [("h5py", "label3d_dannce.mat", b"MATLAB 7.3 MAT-file"), ("pycolmap", "cameras.bin", b"\1" + bytes(7))],
)
def test_a_package_that_is_missing_is_named(
    module: str, file: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in {file, "images.bin"}:
        (tmp_path / name).write_bytes(content)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"needs {module}"):
        read_calibration(tmp_path / file)
