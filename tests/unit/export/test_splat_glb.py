import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from damage import damaged, refused_or
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import random_gaussians, random_similarity, seeded

from mouselift.errors import InputError
from mouselift.export import glb
from mouselift.export.files import convert, read_gaussians, read_placed, write_gaussians
from mouselift.export.ply import PlacedGaussians, write_ply
from mouselift.export.sequence import read_sequence
from mouselift.export.splat_glb import EXTENSION, read_splat_glb, write_splat_glb
from mouselift.geometry import Gaussians, Similarity

ELSEWHERE = Path(__file__).parent / "elsewhere"


def scene(count: int = 5, degree: int = 1, seed: int = 0) -> Gaussians:
    return random_gaussians(seeded(seed), count=count, degree=degree).to(torch.float32)


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """The JSON document and the binary chunk, by the layout that glTF prescribes."""
    data = path.read_bytes()
    assert struct.unpack("<4sII", data[:12]) == (b"glTF", 2, len(data))
    length = int.from_bytes(data[12:16], "little")
    assert data[16:20] == b"JSON"
    assert data[24 + length : 28 + length] == b"BIN\0"
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def rewritten(path: Path, change: Callable[[dict[str, Any]], object], blob: bytes | None = None) -> Path:
    """The same file with another document, or other numbers."""
    document, old = parts(path)
    change(document)
    text, blob = json.dumps(document).encode(), old if blob is None else blob
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def assert_same(found: Gaussians, written: Gaussians, atol: float = 0.0) -> None:
    for name, values in vars(written).items():
        torch.testing.assert_close(getattr(found, name), values, atol=atol or 1e-6, rtol=0)
    assert atol or torch.equal(found.means, written.means)


@pytest.mark.parametrize("units", ["scene", "mm"])
@pytest.mark.parametrize("degree", [0, 3])
def test_what_is_written_is_read_back(tmp_path: Path, degree: int, units: Any) -> None:
    written = scene(degree=degree)
    placement = random_similarity(seeded(3))
    write_gaussians(written, tmp_path / "a.glb", units=units, scene_from_world=placement)
    found = read_placed(tmp_path / "a.glb")
    assert_same(found.gaussians, written)
    assert found.units == units
    assert found.scene_from_world is not None
    torch.testing.assert_close(found.scene_from_world.matrix(), placement.matrix(), rtol=1e-12, atol=1e-12)


def test_the_file_is_what_the_extension_describes(tmp_path: Path) -> None:
    written = scene(degree=1)
    write_gaussians(written, tmp_path / "a.glb", units="mm")
    document, blob = parts(tmp_path / "a.glb")
    assert document["extensionsUsed"] == [EXTENSION]
    assert document["buffers"] == [{"byteLength": len(blob)}]
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 0
    assert primitive["extensions"][EXTENSION]["kernel"] == "ellipse"
    assert primitive["extensions"][EXTENSION]["colorSpace"] == "srgb_rec709_display"

    def column(name: str) -> np.ndarray:
        accessor = document["accessors"][primitive["attributes"][name]]
        assert accessor["componentType"] == 5126
        view = document["bufferViews"][accessor["bufferView"]]
        return np.frombuffer(blob, "<f4", view["byteLength"] // 4, view["byteOffset"]).reshape(5, -1)

    np.testing.assert_array_equal(column("POSITION"), written.means.numpy())
    np.testing.assert_allclose(column(f"{EXTENSION}:ROTATION"), written.quats[:, [1, 2, 3, 0]].numpy(), atol=1e-6)
    np.testing.assert_array_equal(column(f"{EXTENSION}:SCALE"), written.scales.numpy())
    np.testing.assert_array_equal(column(f"{EXTENSION}:OPACITY")[:, 0], written.opacities.numpy())
    np.testing.assert_array_equal(column(f"{EXTENSION}:SH_DEGREE_0_COEF_0"), written.sh[:, 0].numpy())
    np.testing.assert_array_equal(column(f"{EXTENSION}:SH_DEGREE_1_COEF_2"), written.sh[:, 3].numpy())
    bounds = document["accessors"][primitive["attributes"]["POSITION"]]
    np.testing.assert_array_equal(bounds["max"], written.means.amax(0).numpy())
    assert document["nodes"][0]["matrix"][6] == -1e-3  # our y, in mm, is glTF's -z, in metres


def test_other_programs_see_points_that_stand_upright(tmp_path: Path) -> None:
    written = scene()
    write_gaussians(written, tmp_path / "a.glb", units="mm")
    loaded = trimesh.load_scene(tmp_path / "a.glb")
    (cloud,) = loaded.dump()
    expected = 1e-3 * written.means.numpy()[:, [0, 2, 1]] * [1, 1, -1]
    np.testing.assert_allclose(cloud.vertices, expected, atol=1e-7)
    np.testing.assert_allclose(cloud.colors[:, 3] / 255, written.opacities.numpy(), atol=0.003)


def test_a_file_of_splat_transform_is_read(tmp_path: Path) -> None:
    """`splat-transform six.ply splat_transform.glb`, version 3.7: it takes a PLY file's -y to be up."""
    found = read_gaussians(ELSEWHERE / "splat_transform.glb")
    turn = torch.tensor([[-1.0, 0, 0, 0], [0, 0, -1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    expected = read_gaussians(ELSEWHERE / "six.ply").transformed(Similarity.from_matrix(turn))
    assert found.sh.shape == (6, 16, 3)
    sign = torch.where((found.quats * expected.quats).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    assert_same(
        Gaussians(**{**vars(found), "quats": sign * found.quats}),
        expected,
        atol=1e-5,
    )


def test_nodes_place_what_they_hold(tmp_path: Path) -> None:
    """A tree of nodes with matrices and with turns; two sets of different degrees become one."""
    write_gaussians(scene(degree=0), tmp_path / "a.glb")

    def nested(document: dict[str, Any]) -> None:
        document["nodes"] = [
            {"children": [2, 1], "translation": [1, 2, 3], "scale": [2, 2, 2]},
            {"mesh": 0, "rotation": [0, 0, 0.5**0.5, 0.5**0.5]},
            {"mesh": 0},
        ]

    found = read_gaussians(rewritten(tmp_path / "a.glb", nested))
    points = scene(degree=0).means.numpy()
    upright = [1, -3, 2] + 2 * points[:, [0, 2, 1]] * [1, -1, 1]  # glTF's y is our z
    turned = [1, -3, 2] + 2 * points[:, [1, 2, 0]] * [-1, -1, 1]  # a quarter turn about glTF's z
    np.testing.assert_allclose(found.means.numpy(), np.concatenate([upright, turned]), atol=1e-5)
    torch.testing.assert_close(found.scales, 2 * scene(degree=0).scales.repeat(2, 1))


def test_quantised_attributes_are_read(tmp_path: Path) -> None:
    """Signed bytes for turns, unsigned shorts for opacities, rows wider than what they hold."""
    turns = np.array([[127, 0, 0, 0], [0, 0, 0, -128]], "i1")
    opacities = np.zeros((2, 4), "<u2")
    opacities[:, 0] = [0, 65535]
    scales = np.zeros((2, 4), "<f4")
    scales[:, :3] = 0.5
    arrays = [np.ones((2, 3), "<f4"), turns, scales, opacities, np.zeros((2, 3), "<f4")]
    offsets = np.cumsum([0] + [a.nbytes for a in arrays]).tolist()
    write_gaussians(scene(2, degree=0), tmp_path / "a.glb")

    def quantise(document: dict[str, Any]) -> None:
        names = ["POSITION", *(f"{EXTENSION}:{n}" for n in ("ROTATION", "SCALE", "OPACITY", "SH_DEGREE_0_COEF_0"))]
        document["meshes"][0]["primitives"][0]["attributes"] = {name: i for i, name in enumerate(names)}
        document["bufferViews"] = [
            {"buffer": 0, "byteOffset": start, "byteLength": array.nbytes}
            for start, array in zip(offsets, arrays, strict=False)
        ]
        document["bufferViews"][2]["byteStride"] = 16
        document["bufferViews"][3]["byteStride"] = 8
        kinds = [(5126, "VEC3"), (5120, "VEC4"), (5126, "VEC3"), (5123, "SCALAR"), (5126, "VEC3")]
        document["accessors"] = [
            {"bufferView": i, "componentType": kind, "type": shape, "count": 2, "normalized": kind != 5126}
            for i, (kind, shape) in enumerate(kinds)
        ]
        document["nodes"] = [{"mesh": 0, "matrix": glb.y_up(1.0)}]

    found = read_gaussians(rewritten(tmp_path / "a.glb", quantise, b"".join(a.tobytes() for a in arrays)))
    assert found.quats.tolist() == [[0, 1, 0, 0], [-1, 0, 0, 0]]
    assert found.opacities.tolist() == [0, 1]
    assert found.scales.unique().tolist() == [0.5]


def test_convert_goes_to_mm_and_back(tmp_path: Path) -> None:
    placement = Similarity(
        scale=torch.tensor(1 / 80, dtype=torch.float64),
        rotation=torch.eye(3, dtype=torch.float64),
        translation=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
    )
    write_ply(scene(), tmp_path / "a.ply", scene_from_world=placement)
    convert(tmp_path / "a.ply", tmp_path / "a.glb", units="mm", degree=0)
    convert(tmp_path / "a.glb", tmp_path / "b.ply", units="scene")
    found = read_gaussians(tmp_path / "b.ply")
    torch.testing.assert_close(found.means, scene().means, atol=1e-5, rtol=0)
    assert found.sh.shape[1] == 1


def test_a_folder_with_models_may_hold_a_mesh(tmp_path: Path) -> None:
    write_gaussians(scene(2), tmp_path / "a.glb")
    assert len(read_sequence(tmp_path).frames) == 1
    (tmp_path / "a.glb").write_bytes(b"a mesh")
    write_gaussians(scene(3), tmp_path / "a.ply")
    assert [len(frame) for frame in read_sequence(tmp_path).frames] == [3]


# ---- bad files


def primitive_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["meshes"][0]["primitives"][0]


def accessor_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    return document["accessors"][primitive_of(document)["attributes"][name]]


BAD_DOCUMENTS = {
    "no extension": (lambda d: primitive_of(d).pop("extensions"), "found a glTF file without"),
    "no nodes": (lambda d: d.update(scenes=[{}]), "found a glTF file without"),
    "no rotation": (lambda d: primitive_of(d)["attributes"].pop(f"{EXTENSION}:ROTATION"), "with .*:ROTATION"),
    "half a degree": (
        lambda d: primitive_of(d)["attributes"].pop(f"{EXTENSION}:SH_DEGREE_1_COEF_1"),
        "DEGREE_1_COEF_1",
    ),
    "triangles": (lambda d: primitive_of(d).update(mode=4), "with mode 0"),
    "compressed": (
        lambda d: primitive_of(d)["extensions"][EXTENSION].update(extensions={"KHR_x_spz": {}}),
        "not compressed, found 'KHR_x_spz'",
    ),
    "required": (lambda d: d.update(extensionsRequired=["EXT_meshopt"]), "requires 'EXT_meshopt'"),
    "linear": (
        lambda d: primitive_of(d)["extensions"][EXTENSION].update(colorSpace="lin_rec709_display"),
        "colorSpace srgb_rec709_display, found 'lin_rec709_display'",
    ),
    "a short column": (lambda d: accessor_of(d, f"{EXTENSION}:SCALE").update(count=4), "5 rows of .*SCALE"),
    "too many rows": (
        lambda d: [a.update(count=6) for a in d["accessors"]],
        "expected 6 rows, found",
    ),
    "very many": (lambda d: [a.update(count=10**12) for a in d["accessors"]], "numbers for 1000000000000 Gaussians"),
    "beyond 64 bits": (lambda d: [a.update(count=10**30) for a in d["accessors"]], "numbers for 10+ Gaussians"),
    "negative": (lambda d: accessor_of(d, "POSITION").update(count=-1), "greater than or equal to 0"),
    "no such view": (lambda d: accessor_of(d, "POSITION").update(bufferView=99), "index of bufferViews below"),
    "no numbers": (lambda d: accessor_of(d, "POSITION").pop("bufferView"), "sparse array or none"),
    "sparse": (lambda d: accessor_of(d, "POSITION").update(sparse={}), "sparse array or none"),
    "of another type": (lambda d: accessor_of(d, "POSITION").update(type="MAT4"), "found MAT4 of 5126"),
    "of 32-bit integers": (lambda d: accessor_of(d, "POSITION").update(componentType=5125), "found VEC3 of 5125"),
    "beyond the view": (lambda d: accessor_of(d, "POSITION").update(byteOffset=4), "expected 5 rows"),
    "beyond the file": (lambda d: d["bufferViews"][0].update(byteOffset=10**9), "bytes of them"),
    "narrow rows": (lambda d: d["bufferViews"][0].update(byteStride=4), "expected 5 rows"),
    "elsewhere": (lambda d: d["buffers"][0].update(uri="../../etc/passwd"), "a buffer elsewhere"),
    "a loop": (lambda d: d["nodes"][0].update(children=[0]), "found node 0 twice"),
    "no such child": (lambda d: d["nodes"][0].update(children=[7]), "index of nodes below 1, found 7"),
    "no such mesh": (lambda d: d["nodes"][0].update(mesh=3), "index of meshes below 1"),
    "no such scene": (lambda d: d.update(scene=3), "index of scenes below 1"),
    "uneven": (lambda d: d.update(nodes=[{"mesh": 0, "scale": [1, 2, 1]}]), "turn, move and scale evenly"),
    "flat": (lambda d: d.update(nodes=[{"mesh": 0, "scale": [0, 0, 0]}]), "turn, move and scale evenly"),
    "mirrored": (lambda d: d.update(nodes=[{"mesh": 0, "scale": [-1, -1, -1]}]), "turn, move and scale evenly"),
    "immense": (lambda d: d.update(nodes=[{"mesh": 0, "scale": [1e60] * 3}]), "plausible size"),
    "infinite": (lambda d: d.update(nodes=[{"mesh": 0, "scale": [1e400] * 3}]), "finite number"),
    "drawn often": (
        lambda d: d.update(nodes=[{"mesh": 0}] * 9999, scenes=[{"nodes": list(range(9999))}]),
        "numbers for .* Gaussians",
    ),
    "in many parts": (
        lambda d: (
            [a.update(count=0) for a in d["accessors"]],
            d["meshes"][0].update(primitives=[primitive_of(d)] * 1025),
        ),
        "at most 1024 sets",
    ),
    "too many nodes": (lambda d: d.update(nodes=[{}] * 20_000), "a damaged one: nodes: List should have at most"),
    "units": (lambda d: d["asset"]["extras"]["mouselift"].update(units="km"), "asset.extras.mouselift"),
    "place": (lambda d: d["asset"]["extras"]["mouselift"].update(scene_from_world=[1, 2]), "16 numbers"),
    "a list": (lambda d: d.update(nodes="x"), "a damaged one: nodes"),
}


@pytest.mark.parametrize("what", BAD_DOCUMENTS)
def test_bad_documents_are_refused_with_one_line(tmp_path: Path, what: str) -> None:
    change, complaint = BAD_DOCUMENTS[what]
    write_gaussians(scene(), tmp_path / "a.glb")
    with pytest.raises(InputError, match=complaint) as caught:
        read_splat_glb(rewritten(tmp_path / "a.glb", change))
    assert str(caught.value).startswith(str(tmp_path / "a.glb"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "row", "value", "complaint"),
    [
        ("POSITION", 1, np.nan, "finite positions, found others in Gaussian 1"),
        (f"{EXTENSION}:SCALE", 2, -1.0, "scales above 0, found others in Gaussian 2"),
        (f"{EXTENSION}:OPACITY", 3, 1.5, "opacities in .*, found others in Gaussian 3"),
        (f"{EXTENSION}:SH_DEGREE_1_COEF_0", 4, np.inf, "coefficients, found others in Gaussian 4"),
        (f"{EXTENSION}:ROTATION", 0, 0.0, "quaternions, found others in Gaussian 0"),
    ],
)
def test_values_that_make_no_gaussian_are_refused(
    tmp_path: Path, name: str, row: int, value: float, complaint: str
) -> None:
    write_gaussians(scene(), tmp_path / "a.glb")
    document, blob = parts(tmp_path / "a.glb")
    accessor = accessor_of(document, name)
    numbers = np.frombuffer(blob, "<f4").copy()
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
    start = document["bufferViews"][accessor["bufferView"]]["byteOffset"] // 4 + row * width
    numbers[start : start + width] = value
    with pytest.raises(InputError, match=complaint):
        read_splat_glb(rewritten(tmp_path / "a.glb", lambda _: None, numbers.tobytes()))


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    write_gaussians(scene(), tmp_path / "a.glb")
    sound = (tmp_path / "a.glb").read_bytes()
    deep = b"[" * 100_000
    for data, complaint in {
        b"": "another kind of file",
        b"ply\n" + bytes(50): "another kind of file",
        sound[:-1]: "expected glTF 2.0 of",
        sound[:4] + bytes([1]) + sound[5:]: "found version 1",
        struct.pack("<4sII", b"glTF", 2, 12): "a damaged one: its JSON",
        struct.pack("<4sIII4s", b"glTF", 2, 20, 99, b"JSON"): "99 bytes in a part",
        struct.pack("<4sIII4s", b"glTF", 2, 20 + len(deep), len(deep), b"JSON") + deep: "a damaged one: its JSON",
    }.items():
        (tmp_path / "b.glb").write_bytes(data)
        with pytest.raises(InputError, match=complaint):
            read_splat_glb(tmp_path / "b.glb")
    with pytest.raises(InputError, match="No such file"):
        read_splat_glb(tmp_path / "none.glb")


def test_what_makes_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="at least one Gaussian"):
        write_gaussians(scene(0), tmp_path / "a.glb")
    with pytest.raises(ValueError, match="one scene"):
        write_splat_glb(PlacedGaussians(gaussians=random_gaussians(seeded(0), 2).to(torch.float32)), tmp_path / "a.glb")
    bad = scene()
    bad.means[1, 1] = torch.nan
    with pytest.raises(ValueError, match="POSITION has values"):
        write_gaussians(bad, tmp_path / "a.glb")
    monkeypatch.setattr(glb, "LARGEST_FILE", 1000)
    with pytest.raises(InputError, match="at most 4 GB"):
        write_gaussians(scene(), tmp_path / "a.glb")
    assert list(tmp_path.iterdir()) == []


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused_with_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.glb"
    write_gaussians(scene(2), path)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    found = refused_or(read_splat_glb, path)
    if found is not None:
        assert all(bool(values.isfinite().all()) for values in vars(found.gaussians).values())
