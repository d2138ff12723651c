import io
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import damaged, refused_or
from hypothesis import given, settings
from hypothesis import strategies as st
from plyfile import PlyData, PlyElement
from samples import random_gaussians, random_similarity, seeded

from mouselift.errors import InputError
from mouselift.export.ply import PlacedGaussians, read_placed_ply, read_ply, write_ply, write_ply_to
from mouselift.geometry import Gaussians


def scene(count: int = 7, degree: int = 0, seed: int = 0) -> Gaussians:
    return random_gaussians(seeded(seed), count=count, degree=degree).to(torch.float32)


def assert_same(found: Gaussians, expected: Gaussians) -> None:
    for name in ("means", "quats", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-6, rtol=1e-5, msg=name)


def gaussians_file(folder: Path, count: int = 5, degree: int = 1) -> Path:
    write_ply(scene(count, degree), folder / "a.ply")
    return folder / "a.ply"


# ---- round trips and other readers


@given(count=st.integers(0, 20), degree=st.integers(0, 3), seed=st.integers(0, 100))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, count: int, degree: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("ply") / "a.ply"
    written = scene(count, degree, seed)
    write_ply(written, path)
    assert_same(read_ply(path), written)


def test_the_layout_is_that_of_3d_gaussian_splatting(tmp_path: Path) -> None:
    """Read by an independent program: names, order and meaning of every property."""
    gaussians = scene(count=6, degree=2)
    write_ply(gaussians, tmp_path / "a.ply")
    vertex = PlyData.read(tmp_path / "a.ply")["vertex"]
    names = [p.name for p in vertex.properties]
    expected = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    expected += [f"f_rest_{i}" for i in range(24)]
    expected += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert names == expected
    assert {p.val_dtype for p in vertex.properties} == {"f4"}
    np.testing.assert_array_equal(vertex["y"], gaussians.means[:, 1].numpy())
    np.testing.assert_array_equal(vertex["f_dc_2"], gaussians.sh[:, 0, 2].numpy())
    np.testing.assert_array_equal(vertex["f_rest_0"], gaussians.sh[:, 1, 0].numpy())  # red, basis 1
    np.testing.assert_array_equal(vertex["f_rest_7"], gaussians.sh[:, 8, 0].numpy())  # red, basis 8
    np.testing.assert_array_equal(vertex["f_rest_8"], gaussians.sh[:, 1, 1].numpy())  # green, basis 1
    np.testing.assert_allclose(np.exp(vertex["scale_2"]), gaussians.scales[:, 2].numpy(), rtol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-vertex["opacity"])), gaussians.opacities.numpy(), atol=1e-6)
    np.testing.assert_allclose(vertex["rot_0"], gaussians.quats[:, 0].numpy(), atol=1e-6)


def test_degrees_are_cut_and_padded(tmp_path: Path) -> None:
    gaussians = scene(degree=2)
    write_ply(gaussians, tmp_path / "cut.ply", degree=0)
    assert torch.equal(read_ply(tmp_path / "cut.ply").sh, gaussians.sh[:, :1])
    write_ply(gaussians, tmp_path / "padded.ply", degree=3)
    padded = read_ply(tmp_path / "padded.ply").sh
    assert torch.equal(padded[:, :9], gaussians.sh)
    assert not padded[:, 9:].any()


def test_opacities_of_zero_and_one_stay_finite(tmp_path: Path) -> None:
    gaussians = scene(count=2)
    extreme = Gaussians(
        means=gaussians.means,
        quats=gaussians.quats,
        scales=gaussians.scales,
        opacities=torch.tensor([0.0, 1.0]),
        sh=gaussians.sh,
    )
    write_ply(extreme, tmp_path / "a.ply")
    assert np.isfinite(PlyData.read(tmp_path / "a.ply")["vertex"]["opacity"]).all()
    torch.testing.assert_close(read_ply(tmp_path / "a.ply").opacities, extreme.opacities, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("text", "byte_order"), [(True, "="), (False, "<"), (False, ">")])
def test_other_encodings_layouts_and_elements_are_read(tmp_path: Path, text: bool, byte_order: str) -> None:
    """Ascii and big-endian files, doubles, no normals, unknown properties, quaternions of any length."""
    gaussians = scene(count=3, degree=1)
    columns = {
        **{name: gaussians.means[:, i] for i, name in enumerate("xyz")},
        "red": torch.tensor([1, 2, 3]),
        **{f"rot_{i}": 7 * gaussians.quats[:, i] for i in range(4)},
        **{f"scale_{i}": gaussians.scales[:, i].log() for i in range(3)},
        "opacity": torch.logit(gaussians.opacities),
        **{f"f_rest_{i}": gaussians.sh[:, 1 + i % 3, i // 3] for i in reversed(range(9))},
        **{f"f_dc_{i}": gaussians.sh[:, 0, i] for i in range(3)},
    }
    rows = np.empty(3, dtype=[(name, "u1" if name == "red" else "f8") for name in columns])
    for name, values in columns.items():
        rows[name] = values.numpy()
    faces = np.array([(0,)], dtype=[("index", "i4")])
    elements = [PlyElement.describe(rows, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(elements, text=text, byte_order=byte_order, comments=["by a test"]).write(tmp_path / "a.ply")
    assert_same(read_ply(tmp_path / "a.ply"), gaussians)


def test_infinite_logits_are_read_as_opacities(tmp_path: Path) -> None:
    path = gaussians_file(tmp_path)
    _overwrite(path, "opacity", np.inf, 3)
    assert float(read_ply(path).opacities[3]) == 1.0


# ---- bad files


def _overwrite(path: Path, name: str, value: float, row: int) -> None:
    ply = PlyData.read(path, mmap=False)
    ply["vertex"][name][row] = value
    ply.write(path)


def _edit_header(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


BAD_FILES = {
    "not a PLY": (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(100)), "found another kind of file"),
    "empty": (lambda p: p.write_bytes(b""), "found another kind of file"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-10]), "expected 5 Gaussians = 520 bytes"),
    "too long": (lambda p: p.write_bytes(p.read_bytes() + b"xx"), "found 522 bytes"),
    "cut header": (lambda p: p.write_bytes(p.read_bytes()[:200]), "ends with end_header"),
    "no opacity": (lambda p: _edit_header(p, b"float opacity", b"float opacitx"), "found one without opacity"),
    "twice": (lambda p: _edit_header(p, b"float nx", b"float x"), "distinct properties"),
    "a list": (lambda p: _edit_header(p, b"float nx", b"list uchar int nx"), "scalar properties"),
    "a long line": (
        lambda p: _edit_header(p, b"float nx", b"float nx \x1b[31m" + b" x" * 300),
        "found: property float nx ?[31m x x x",
    ),
    "a type": (lambda p: _edit_header(p, b"float nx", b"quad nx"), "scalar properties"),
    "no count": (lambda p: _edit_header(p, b"vertex 5", b"vertex x"), "number of vertices"),
    "no vertices": (lambda p: _edit_header(p, b"element vertex", b"element point"), "the element vertex"),
    "format": (lambda p: _edit_header(p, b"binary_little", b"binary_middle"), "a format"),
    "rest": (lambda p: _edit_header(p, b"f_rest_8", b"other_8"), "0, 9, 24 or 45"),
    "gap in rest": (lambda p: _edit_header(p, b"f_rest_8", b"f_rest_9"), "0, 9, 24 or 45"),
    "nan": (lambda p: _overwrite(p, "x", np.nan, 3), "found x = nan of Gaussian 3"),
    "nan opacity": (lambda p: _overwrite(p, "opacity", np.nan, 1), "found opacity = nan of Gaussian 1"),
    "infinite": (lambda p: _overwrite(p, "f_rest_4", np.inf, 2), "found f_rest_4 = inf of Gaussian 2"),
    "huge scale": (lambda p: _overwrite(p, "scale_1", 1000.0, 0), "0 or infinite"),
    "no scale": (lambda p: _overwrite(p, "scale_1", -1000.0, 0), "0 or infinite"),
    "no turn": (lambda p: [_overwrite(p, f"rot_{i}", 0, 0) for i in range(4)], "of length 0"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_bad_files_are_refused_with_one_line(tmp_path: Path, what: str) -> None:
    damage, complaint = BAD_FILES[what]
    path = gaussians_file(tmp_path)
    damage(path)
    with pytest.raises(InputError) as caught:
        read_ply(path)
    assert str(caught.value).startswith(str(path))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_ascii_is_refused(tmp_path: Path) -> None:
    path = gaussians_file(tmp_path)
    PlyData(list(PlyData.read(path)), text=True).write(tmp_path / "text.ply")
    lines = (tmp_path / "text.ply").read_text().splitlines(keepends=True)
    for cut, complaint in [
        (lines[:-1], "expected 5 lines after the header, found 4"),
        ([*lines[:-1], "1 2 three\n"], "expected 26 numbers on each line"),
        ([*lines[:-5], "1 " * 500 + "\n"], "expected 26 numbers on each line"),
        ([*lines[:-5], "1 2\n" * 5], "expected 5 lines of 26 numbers, found 20 bytes"),
        ([line.replace("vertex 5", "vertex 0") for line in lines[:-5]], None),
    ]:
        (tmp_path / "text.ply").write_text("".join(cut))
        if complaint is None:
            assert len(read_ply(tmp_path / "text.ply")) == 0
            continue
        with pytest.raises(InputError, match=complaint):
            read_ply(tmp_path / "text.ply")


def test_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_ply(tmp_path / "none.ply")
    with pytest.raises(InputError, match="Is a directory"):
        read_ply(tmp_path)


# ---- bad scenes and places


def test_only_one_finite_scene_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one scene"):
        write_ply(random_gaussians(seeded(0), 2, count=3).to(torch.float32), tmp_path / "a.ply")
    bad = scene()
    bad.means[2, 0] = torch.nan
    with pytest.raises(ValueError, match="x has values that are not finite"):
        write_ply(bad, tmp_path / "a.ply")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_survives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = gaussians_file(tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_ply(scene(count=9), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a place to write to"):
        write_ply(scene(), tmp_path / "none" / "a.ply")
    with pytest.raises(InputError, match="found a folder"):
        write_ply(scene(), tmp_path)


# ---- minimal files, and what is noted in comments


def test_minimal_files_have_no_normals(tmp_path: Path) -> None:
    gaussians = scene(count=4, degree=1)
    write_ply(gaussians, tmp_path / "a.ply", minimal=True)
    names = [p.name for p in PlyData.read(tmp_path / "a.ply")["vertex"].properties]
    assert not {"nx", "ny", "nz"} & set(names)
    assert len(names) == 3 + 3 + 9 + 1 + 3 + 4
    assert_same(read_ply(tmp_path / "a.ply"), gaussians)


def test_units_and_placement_are_comments_that_others_skip(tmp_path: Path) -> None:
    placement = random_similarity(seeded(2))
    write_ply(scene(), tmp_path / "a.ply", units="mm", scene_from_world=placement)
    comments = PlyData.read(tmp_path / "a.ply").comments
    assert comments[0] == "mouselift units mm"
    assert comments[1].startswith("mouselift scene_from_world ")
    placed = read_placed_ply(tmp_path / "a.ply")
    assert placed.units == "mm"
    assert placed.scene_from_world is not None
    torch.testing.assert_close(placed.scene_from_world.matrix(), placement.matrix(), rtol=1e-12, atol=1e-12)
    write_ply(scene(), tmp_path / "b.ply")
    assert PlyData.read(tmp_path / "b.ply").comments == []
    assert read_placed_ply(tmp_path / "b.ply").units == "scene"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (b"units mm", b"units km", "units scene or units mm, found km"),
        (b"scene_from_world ", b"scene_from_world x", "16 numbers of a similarity"),
        (b" 0 0 0 1\n", b" 0 0 1\n", "16 numbers of a similarity"),
        (b" 0 0 0 1\n", b" 0 0 1 1\n", "16 numbers of a similarity"),
    ],
)
def test_bad_comments_of_ours_are_refused(tmp_path: Path, old: bytes, new: bytes, complaint: str) -> None:
    write_ply(scene(), tmp_path / "a.ply", units="mm", scene_from_world=random_similarity(seeded(2)))
    _edit_header(tmp_path / "a.ply", old, new)
    with pytest.raises(InputError, match=complaint):
        read_ply(tmp_path / "a.ply")


# ---- fuzzing


def sound_file(degree: int, encoding: str) -> bytes:
    plain, encoded = io.BytesIO(), io.BytesIO()
    write_ply_to(plain, PlacedGaussians(gaussians=scene(2, degree)))
    plain.seek(0)
    text = encoding == "ascii"
    PlyData(list(PlyData.read(plain)), text=text, byte_order="=" if text else encoding).write(encoded)
    return encoded.getvalue()


SOUND_FILES = [sound_file(degree, encoding) for degree in (0, 1) for encoding in ("<", ">", "ascii")]
OLD_WORDS = [b"vertex 2", b"float x", b"float opacity", b"1.0", b"element", b"end_header", b"\n"]
NEW_WORDS = [b"vertex 3", b"vertex -1", b"vertex " + b"9" * 30, b"list uchar int x", b"double x", b"", b"\r", b"x"]


@st.composite
def ply_bytes(draw: st.DrawFn) -> bytes:
    """A small file of any encoding with damage to its header, its numbers or its length."""
    data = draw(st.sampled_from(SOUND_FILES))
    if draw(st.booleans()):
        data = data.replace(draw(st.sampled_from(OLD_WORDS)), draw(st.sampled_from(NEW_WORDS)), 1)
    return draw(damaged(data))


@given(data=st.one_of(ply_bytes(), st.binary(max_size=300), st.binary(max_size=300).map(lambda b: b"ply\n" + b)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused_with_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.ply"
    path.write_bytes(data)
    found = refused_or(read_ply, path)
    if found is not None:
        for values in vars(found).values():
            assert bool(values.isfinite().all())
        torch.testing.assert_close(found.quats.norm(dim=-1), torch.ones(len(found)))
