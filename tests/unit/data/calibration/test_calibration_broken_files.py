"""A table of broken calibrations: each is refused with one line that names the file and the fault."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.io import savemat

from mouselift.data.calibration import (
    WRITERS,
    CalibratedCamera,
    Calibration,
    read_calibration,
    read_cameras,
    suspicious_pairs,
)
from mouselift.data.calibration.parsing import intrinsics
from mouselift.errors import InputError
from mouselift.geometry.transforms import invert_rigid, look_at, rigid

MIRROR = torch.diag(torch.tensor([1.0, 1, -1, 1], dtype=torch.float64))


def ring(count: int = 6, elevation_mm: float = 40.0) -> Calibration:
    """Cameras around a subject that is not at the world's origin."""
    azimuth = torch.arange(count, dtype=torch.float64) * 2 * torch.pi / count + 0.3
    height = torch.full_like(azimuth, elevation_mm)
    eyes = torch.stack([300 * azimuth.cos(), 300 * azimuth.sin(), height], -1)
    offset = torch.tensor([50.0, 60, 30], dtype=torch.float64)
    return of(look_at(eyes + offset, offset))


def of(w2c: torch.Tensor, size: tuple[int | None, int | None] = (1280, 1024)) -> Calibration:
    K, (width, height) = intrinsics(1600, 1600, 640, 512), size
    cameras = (CalibratedCamera(name=f"c{i}", K=K, w2c=m, width=width, height=height) for i, m in enumerate(w2c))
    return Calibration(cameras=tuple(cameras), format="test", source=Path("rig"))


def json_with(change: Callable[[dict[str, Any]], Any], format: str = "facelift") -> Callable[[Path], Path]:
    """A file of a ring in which `change` has altered the content."""

    def make(folder: Path) -> Path:
        path = folder / "cameras.json"
        WRITERS[format](path, ring())
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return path

    return make


def text(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return make


def pickled(**changes: Any) -> Callable[[Path], Path]:
    camera = {"K": np.array([[1600.0, 0, 600], [0, 1600, 500], [0, 0, 1]]), "R": np.eye(3), "T": np.ones(3)}
    return text("new_cam.pkl", pickle.dumps([camera | changes]))


def written(format: str, name: str, change: Callable[[str], str | bytes], file: str = "") -> Callable[[Path], Path]:
    """A file of a ring, changed as text; `file` inside it where the format writes a folder."""

    def make(folder: Path) -> Path:
        path = folder / name
        WRITERS[format](path, ring())
        changed = change((path / file).read_text())
        (path / file).write_bytes(changed if isinstance(changed, bytes) else changed.encode())
        return path

    return make


def dannce(**changes: Any) -> Callable[[Path], Path]:
    camera = {"K": np.array([[1600.0, 0, 0], [0, 1600, 0], [600, 500, 1]]), "r": np.eye(3), "t": np.ones((1, 3))}

    def make(folder: Path) -> Path:
        cells = np.array([[camera | changes.get("camera", {})], [camera]], dtype=object)
        savemat(folder / "label3d_dannce.mat", {"params": cells, **changes.get("file", {})})
        return folder / "label3d_dannce.mat"

    return make


def frame(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["frames"][2].update(changes)


def turned(matrix: torch.Tensor) -> list[Any]:
    return matrix.tolist()


def swap(old: str, new: str) -> Callable[[str], str]:
    def change(content: str) -> str:
        assert old in content
        return content.replace(old, new, 1)

    return change


K = [[1600.0, 0, 640], [0, 1600, 512], [0, 0, 1]]
W2C = ring().cameras[2].w2c
BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "none.json", "found nothing there"),
    "empty folder": (lambda folder: folder, "found none; tried mammal, dannce"),
    "empty file": (text("calibration.toml", ""), "found an empty file"),
    "blank file": (text("calibration.json", " \n\n"), "found an empty file"),
    "picture": (text("calibration.json", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "found a binary file; tried mammal"),
    "prose": (text("calibration.yaml", "the cameras were good"), "found text without cameras; tried mammal"),
    "unrelated JSON": (text("calibration.json", '{"frames": [], "a": 1}'), "found text without cameras"),
    "unrelated TOML": (text("calibration.toml", "[tool]\nname = 'x'\n"), "found text without cameras"),
    "YAML with a Python object": (
        text("calibration.yaml", "camera_matrix: !!python/object/apply:os.system ['touch x']\n"),
        "expected OpenCV's YAML",
    ),
    "UTF-16": (text("calibration.yaml", "K: [1]".encode("utf-16")), "found a binary file"),
    # MAMMAL
    "pickle bomb": (text("new_cam.pkl", b"\x80\x04cposix\nsystem\n\x8c\x04exit\x85R."), "found posix.system"),
    "truncated pickle": (
        lambda folder: text("new_cam.pkl", pickled()(folder).read_bytes()[:-40])(folder),
        "found a damaged one",
    ),
    "pickle of something else": (text("new_cam.pkl", pickle.dumps(np.eye(3))), "expected a list or dictionary of cam"),
    "pickle without cameras": (text("new_cam.pkl", pickle.dumps([])), "expected at least one camera, found none"),
    "pickle of names": (text("new_cam.pkl", pickle.dumps(["a"])), "camera '0': expected named values, found str 'a'"),
    "no T": (text("new_cam.pkl", pickle.dumps([{"K": np.eye(3), "R": np.eye(3)}])), "found no T"),
    "K of texts": (pickled(K=[["a"] * 3] * 3), "camera '0', K: expected numbers"),
    "K of complex numbers": (pickled(K=1j * np.eye(3)), "camera '0', K: expected numbers"),
    "K of another shape": (pickled(K=np.eye(4)), "camera '0', K: expected 3x3 numbers, found 4x4"),
    "T of another length": (pickled(T=np.ones(4)), "camera '0', T: expected 3 numbers, found 4"),
    "NaN in R": (pickled(R=np.full((3, 3), np.nan)), "camera '0': K, w2c or the distortion has values that are not fi"),
    "scaled R": (pickled(R=2 * np.eye(3)), "camera '0': the rotation is not orthonormal"),
    "mirrored R": (pickled(R=np.diag([1.0, 1, -1])), r"camera '0': det\(R\) = -1, a mirrored pose"),
    "negative focal length": (pickled(K=np.diag([-1600.0, 1600, 1])), "positive diagonal"),
    "projection matrix for K": (pickled(K=np.ones((3, 3))), "last row of K .* transposed"),
    # DANNCE
    "truncated mat": (
        lambda folder: text("label3d_dannce.mat", dannce()(folder).read_bytes()[:300])(folder),
        "expected a MATLAB file|expected DANNCE's variable params",
    ),
    "mat header alone": (text("x.mat", b"MATLAB 5.0 MAT-file" + b" " * 109), "expected"),
    "HDF5 header alone": (text("x.mat", b"MATLAB 7.3 MAT-file" + b" " * 600), "expected a MATLAB 7.3 file"),
    "mat of something else": (dannce(file={"params": np.eye(3)}), "expected a cell of structs"),
    "fewer camnames": (dannce(file={"camnames": np.array([["a"]], dtype=object)}), "a name for each of 2 cameras, fou"),
    "camnames twice": (dannce(file={"camnames": np.array(["a", "a"], dtype=object)}), "found 'a' twice"),
    "one radial coefficient": (dannce(camera={"RDistort": np.ones(1)}), "2 or 3 radial .* found 1 and 0"),
    "untransposed K": (
        dannce(camera={"K": np.array([[1600.0, 0, 600], [0, 1600, 500], [0, 0, 1]])}),
        "camera 'Camera1': the last row of K .* transposed",
    ),
    # FaceLift
    "truncated JSON": (lambda f: text("c.json", json_with(frame())(f).read_text()[:-9])(f), "expected JSON, found"),
    "deep JSON": (text("c.json", "[" * 100_000), "expected JSON, found"),
    "transposed w2c": (json_with(frame(w2c=turned(W2C.mT))), "camera 'c2': the last row of w2c .* transposed"),
    "mirrored w2c": (json_with(frame(w2c=turned(W2C @ MIRROR))), r"camera 'c2': det\(R\) = -1"),
    "NaN in w2c": (json_with(frame(w2c=turned(W2C * float("nan")))), "camera 'c2': .* not finite"),
    "no fx": (json_with(lambda c: c["frames"][2].pop("fx")), "camera 'c2': .* found no fx"),
    "text for fx": (json_with(frame(fx="wide")), "camera 'c2', fx: expected numbers, found str 'wide'"),
    "half a pixel": (json_with(frame(w=12.5)), "camera 'c2', w: expected a whole number of pixels, found 12.5"),
    "no pixel": (json_with(frame(h=0)), "camera 'c2', h: expected a whole number of pixels, found 0"),
    "name twice": (json_with(frame(view_name="c1")), "expected cameras of different names, found 'c1' twice"),
    "scene_from_world mirrored": (
        json_with(lambda c: c.update(scene_from_world=turned(MIRROR))),
        "scene_from_world: .*mirrored",
    ),
    # Anipose
    "truncated TOML": (written("anipose", "calibration.toml", lambda t: t[:500]), "expected TOML"),
    "TOML cut between cameras": (written("anipose", "c.toml", lambda t: t[: t.index("matrix")]), "found no matrix"),
    "fisheye": (written("anipose", "c.toml", swap("dist", "fisheye = true\ndist")), "camera 'c0': .* fisheye = true"),
    "no rotation": (written("anipose", "c.toml", swap("rotation", "turn")), "camera 'c0': .* found no rotation"),
    "seven coefficients": (
        written("anipose", "c.toml", swap("[0.0, 0.0, 0.0, 0.0, 0.0]", "[1.0, 0, 0, 0, 0, 0, 0]")),
        "camera 'c0', distortions: expected 4 or 5 distortion coefficients, found 7",
    ),
    "rational lens": (
        written("anipose", "c.toml", swap("[0.0, 0.0, 0.0, 0.0, 0.0]", "[1.0, 0, 0, 0, 0, 0.5, 0, 0]")),
        "camera 'c0', distortions: expected distortion k1 k2 p1 p2 k3 only",
    ),
    "one size": (written("anipose", "c.toml", swap("[1280, 1024]", "[1280]")), "size = .width, height., found 1"),
    "infinite rotation": (
        written("anipose", "c.toml", lambda t: re.sub(r"rotation = .*", "rotation = [inf, 0, 0]", t)),
        "camera 'c0': .* not finite",
    ),
    # OpenCV and JARVIS
    "truncated YAML": (written("opencv", "c.yaml", lambda t: t[:-30]), "expected OpenCV's YAML"),
    "no extrinsics": (
        text("c.yaml", yaml.safe_dump({"camera_matrix": np.diag([9.0, 9, 1]).tolist()})),
        "camera 'c': expected camera_matrix, R and T, found none of R, rotation_matrix",
    ),
    "NaN in YAML": (written("opencv", "c.yaml", swap("1.60000000000000000e+03", ".nan")), "camera 'c0': .* not finite"),
    "rows that lie": (written("opencv", "c.yaml", swap("0.00000000000000000e+00, ", "")), "matrix: expected 3x3 numb"),
    "JARVIS with another's file": (
        written("jarvis", "rig", swap("intrinsicMatrix", "camera_matrix"), "c3.yaml"),
        "c3.yaml: expected intrinsicMatrix, R and T, found no intrinsicMatrix",
    ),
    "JARVIS not transposed": (
        written("jarvis", "rig", swap("intrinsicMatrix: !!opencv-matrix", f"intrinsicMatrix: {K}\nunused:"), "c3.yaml"),
        "camera 'c3': the last row of K .* transposed",
    ),
    # Nerfstudio
    "equirectangular": (
        json_with(lambda c: c.update(camera_model="EQUIRECTANGULAR"), "nerfstudio"),
        "expected the camera model OPENCV, .* found EQUIRECTANGULAR",
    ),
    "k4": (json_with(frame(k4=0.1), "nerfstudio"), "camera 'c2': .* found k4 = 0.1"),
    "no focal length": (json_with(lambda c: c["frames"][2].pop("fl_x"), "nerfstudio"), "camera 'c2': expected fl_x"),
    "transposed c2w": (
        json_with(frame(transform_matrix=turned(invert_rigid(W2C).mT)), "nerfstudio"),
        "camera 'c2', transform_matrix: .* transposed",
    ),
    # COLMAP
    "truncated COLMAP": (
        written("colmap", "m", lambda t: t[: t.index("c3") - 20], "images.txt"),
        r"images.txt:8: expected ID QW",
    ),
    "COLMAP fisheye": (
        written("colmap", "m", swap("PINHOLE", "OPENCV_FISHEYE"), "cameras.txt"),
        "image 'c0': expected a camera model of .* found OPENCV_FISHEYE",
    ),
    "COLMAP parameters": (
        written("colmap", "m", swap(" 512.0", ""), "cameras.txt"),
        "image 'c0': expected 4 parameters of PINHOLE, found 3",
    ),
    "COLMAP camera not there": (
        written("colmap", "m", swap("1 PINHOLE", "9 PINHOLE"), "cameras.txt"),
        "image 'c0': expected the camera 1, which",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_clear_error(name: str, tmp_path: Path) -> None:
    make, message = BROKEN[name]
    path = make(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        read_calibration(path)
    line = str(raised.value)
    assert str(tmp_path) in line
    assert "\n" not in line
    assert len(line) < 400 + len(str(path)) * 2


def test_the_unbroken_ones_are_read(tmp_path: Path) -> None:
    """The table would pass if everything were refused."""
    for make in (pickled(), dannce(), json_with(frame()), json_with(frame(), "nerfstudio")):
        assert read_calibration(make(tmp_path)).cameras
    for format, name in (("anipose", "c.toml"), ("opencv", "c.yaml"), ("jarvis", "j"), ("colmap", "m")):
        WRITERS[format](tmp_path / name, ring())
        assert read_calibration(tmp_path / name).names == ring().names


def test_a_permission_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = json_with(frame())(tmp_path)

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)  # tests may run as root, whom no mode stops
    with pytest.raises(InputError, match=r"cameras.json: expected a calibration file, found Permission denied"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (torch.clone, None),
        (invert_rigid, "w2c looks like camera-to-world"),
        (lambda w2c: rigid(w2c[:, :3, :3].mT, w2c[:, :3, 3]), "R looks transposed"),
    ],
)
def test_matrices_turned_round_are_found_by_the_rig(tmp_path: Path, change: Any, cause: str | None) -> None:
    path = tmp_path / "cameras.json"
    WRITERS["facelift"](path, of(change(torch.stack([camera.w2c for camera in ring().cameras]))))
    if cause is None:
        assert len(read_calibration(path).cameras) == 6
        return
    with pytest.raises(InputError, match=rf"expected upright cameras, .* {cause}"):
        read_calibration(path)


def test_rigs_that_look_down_from_all_sides_are_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "cameras.json"
    for elevation_mm in (500.0, 1000.0, 3000.0):
        WRITERS["facelift"](path, ring(elevation_mm=elevation_mm))
        assert len(read_calibration(path).cameras) == 6


def test_cameras_in_the_same_place_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cameras.json"
    rig = ring()
    WRITERS["facelift"](path, of(torch.stack([camera.w2c for camera in (*rig.cameras[:3], rig.cameras[1])])))
    (sentence,) = suspicious_pairs(read_calibration(path))
    assert "cameras 'c1' and 'c3' have the same position and rotation and the same intrinsics" in sentence
    assert caplog.messages == [sentence]
    assert suspicious_pairs(rig) == []


@pytest.mark.data
def test_the_calibration_with_two_cameras_in_one_is_noticed(test_data: Path) -> None:
    folder = test_data / "sleap_anipose_mouse4cam"
    if not folder.is_dir():
        pytest.skip(f"no recording at {folder}")
    (sentence,) = suspicious_pairs(read_calibration(folder / "calibration.toml"))
    assert "cameras 'side' and 'top' have the same position and rotation and the same intrinsics" in sentence
    for name in ("recalibrated.anipose.toml", "recalibrated.json"):
        assert suspicious_pairs(read_calibration(folder / name)) == []


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected one of the formats mammal, .* found 'dance'"):
        read_calibration(tmp_path, format="dance")


@pytest.mark.parametrize("unit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_unit_must_be_a_length(tmp_path: Path, unit: float) -> None:
    with pytest.raises(InputError, match=r"positive number of millimetres"):
        read_calibration(tmp_path, mm_per_unit=unit)


def test_a_size_must_be_known_and_one(tmp_path: Path) -> None:
    unsized = pickled()(tmp_path)
    with pytest.raises(InputError, match=r"camera '0' has no image size; give width and height"):
        read_cameras(unsized)
    assert read_cameras(unsized, image_size=(1152, 1024)).width == 1152
    sized = json_with(frame())(tmp_path)
    assert read_cameras(sized).height == 1024
    with pytest.raises(InputError, match=r"expected one image size, found .*c0 1280x1024.* and 1024x1280 was given"):
        read_cameras(sized, image_size=(1024, 1280))
    with pytest.raises(InputError, match=r"expected one image size, found .*c2 1280x1000"):
        read_cameras(json_with(frame(h=1000))(tmp_path))
