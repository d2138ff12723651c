import gzip
import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import refused_or
from mutations import OWN_KINDS, damaged_file, file_suffix
from PIL import Image
from plyfile import PlyData
from samples import normal, random_gaussians, random_similarity, seeded, uniform

from mouselift.errors import InputError
from mouselift.export import packed
from mouselift.export.files import convert, read_gaussians, read_placed, read_scene_from_world, write_gaussians
from mouselift.export.ply import read_ply, write_ply
from mouselift.geometry import Gaussians, Similarity
from mouselift.geometry.sh import dc_from_rgb
from mouselift.geometry.transforms import quat_to_rotmat

ELSEWHERE = Path(__file__).parent / "elsewhere"
PACKED = ("compressed.ply", "spz", "sog", "ksplat")
needs_gaussforge = pytest.mark.skipif(packed.find_spec("gaussforge") is None, reason="the extra `files` is missing")


def scene(count: int = 300, degree: int = 3, seed: int = 0) -> Gaussians:
    """What every format can hold: colours in [0, 1], higher coefficients of the size that optimisation gives."""
    generator = seeded(seed)
    some = random_gaussians(generator, count=count, degree=degree).to(torch.float32)
    dc = dc_from_rgb(uniform(generator, count, 1, 3, low=0.05, high=0.95)).float()
    rest = 0.15 * normal(generator, count, (degree + 1) ** 2 - 1, 3).float()
    return Gaussians(
        means=some.means,
        quats=some.quats,
        scales=some.scales,
        opacities=0.02 + 0.96 * some.opacities,
        sh=torch.cat([dc, rest.clamp(-0.6, 0.6)], dim=1),
    )


def matched(found: Gaussians, like: Gaussians) -> Gaussians:
    """`found` in the order of `like`: some formats sort."""
    nearest = torch.cdist(like.means.double(), found.means.double()).argmin(1)
    assert len(nearest.unique()) == len(like) == len(found)
    return found._map(lambda t: t[nearest])


def shape(gaussians: Gaussians) -> torch.Tensor:
    """Covariances divided by the largest variance: half turns about a Gaussian's own axes do not count."""
    axes = quat_to_rotmat(gaussians.quats.double()) * gaussians.scales.double()[:, None]
    return axes @ axes.mT / gaussians.scales.double().amax(-1)[:, None, None].square()


# Largest error of position, colour, opacity, logarithm of scales, normalised covariance, and of higher coefficients.
TOLERANCES = {
    "ply": (0, 1e-6, 1e-6, 1e-5, 1e-5, 1e-6),
    "splat": (0, 0.0021, 0.0021, 1e-6, 0.03, None),
    "compressed.ply": (0.0007, 0.0025, 0.0025, 0.002, 0.01, 0.016),
    "spz": (0.00013, 0.004, 0.0021, 0.032, 0.08, 0.07),
    "sog": (0.0001, 0.004, 0.0025, 0.02, 0.05, 0.07),
    "ksplat": (0, 0.004, 0.004, 1e-6, 0.001, 1e-6),
}


@needs_gaussforge
@pytest.mark.parametrize("kind", TOLERANCES)
@pytest.mark.parametrize("degree", [0, 2])
def test_round_trips_stay_within_the_steps_of_the_format(tmp_path: Path, kind: str, degree: int) -> None:
    position, colour, opacity, scale, covariance, rest = TOLERANCES[kind]
    written = scene(degree=degree)
    write_gaussians(written, tmp_path / f"a.{kind}")
    found = matched(read_gaussians(tmp_path / f"a.{kind}"), written)
    torch.testing.assert_close(found.means, written.means, atol=position, rtol=0)
    torch.testing.assert_close(found.rgb, written.rgb, atol=colour, rtol=0)
    torch.testing.assert_close(found.opacities, written.opacities, atol=opacity, rtol=0)
    torch.testing.assert_close(found.scales.log(), written.scales.log(), atol=scale, rtol=0)
    torch.testing.assert_close(shape(found), shape(written), atol=covariance, rtol=0)
    if rest is None:
        assert found.sh.shape[1] == 1
    else:
        torch.testing.assert_close(found.sh[:, 1:], written.sh[:, 1:], atol=rest, rtol=0)


@needs_gaussforge
@pytest.mark.parametrize(("kind", "bases"), [("spz", 16), ("sog", 16), ("compressed.ply", 16), ("ksplat", 9)])
def test_degree_3_is_kept_where_the_format_has_it(tmp_path: Path, kind: str, bases: int) -> None:
    written = scene(count=40)
    write_gaussians(written, tmp_path / f"a.{kind}")
    found = matched(read_gaussians(tmp_path / f"a.{kind}"), written)
    torch.testing.assert_close(found.sh[:, 1:], written.sh[:, 1:bases], atol=0.08, rtol=0)
    write_gaussians(written, tmp_path / f"b.{kind}", degree=1)
    assert read_gaussians(tmp_path / f"b.{kind}").sh.shape[1] == 4


# ---- the formats' own layouts, read without gaussforge: what a round trip cannot see


@needs_gaussforge
def test_spz_files_hold_the_numbers_as_they_are(tmp_path: Path) -> None:
    """Niantic's version 3: a gzip of a header, then positions of 24 bits with 12 after the point, and so on."""
    written = scene(count=5, degree=1)
    write_gaussians(written, tmp_path / "a.spz")
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    assert np.frombuffer(data[:12], "<u4").tolist() == [0x5053474E, 3, 5]
    assert list(data[12:14]) == [1, 12]
    columns = np.frombuffer(data[16 : 16 + 45], "u1").reshape(5, 3, 3).astype(np.int32)
    values = columns @ [1, 1 << 8, 1 << 16]
    positions = np.where(values >= 1 << 23, values - (1 << 24), values) / 4096
    np.testing.assert_allclose(positions, written.means.numpy(), atol=1.3e-4)
    sh = (np.frombuffer(data[-45:], "u1").reshape(5, 3, 3).astype(np.float32) - 128) / 128  # coefficient, then channel
    np.testing.assert_allclose(sh, written.sh[:, 1:].numpy(), atol=0.04)


@needs_gaussforge
def test_compressed_ply_has_coefficients_channel_by_channel(tmp_path: Path) -> None:
    written = scene(count=300, degree=2)
    write_gaussians(written, tmp_path / "a.compressed.ply")
    ply = PlyData.read(tmp_path / "a.compressed.ply")
    assert [element.name for element in ply.elements] == ["chunk", "vertex", "sh"]
    found = np.stack([ply["sh"][f"f_rest_{i}"] for i in range(24)], axis=1)
    expected = written.sh[:, 1:].mT.flatten(1).numpy()
    np.testing.assert_allclose((found + 0.5) / 256 * 8 - 4, expected, atol=0.017)
    packed_position = ply["vertex"]["packed_position"]
    low, high = (np.repeat(ply["chunk"][f"{end}_x"], 256)[:300] for end in ("min", "max"))
    np.testing.assert_allclose(
        low + (high - low) * (packed_position >> 21) / 2047, written.means[:, 0].numpy(), atol=0.0005
    )
    (tmp_path / "a.compressed.ply").rename(tmp_path / "b.ply")  # not everybody names them so
    torch.testing.assert_close(read_gaussians(tmp_path / "b.ply").means, written.means, atol=0.0007, rtol=0)


@needs_gaussforge
def test_sog_files_hold_pictures_of_the_scene(tmp_path: Path) -> None:
    written = scene(count=60, degree=0)
    write_gaussians(written, tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        meta = json.loads(archive.read("meta.json"))

        def pixels(name: str) -> np.ndarray:
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                return np.asarray(picture.convert("RGBA")).reshape(-1, 4)[:60].astype(np.int64)

        low, high = (pixels(name)[:, :3] for name in meta["means"]["files"])
        quats = pixels(meta["quats"]["files"][0])
    minimum, maximum = np.array(meta["means"]["mins"]), np.array(meta["means"]["maxs"])
    logs = minimum + (maximum - minimum) * (low + 256 * high) / 65535
    positions = torch.from_numpy(np.sign(logs) * np.expm1(np.abs(logs))).float()
    nearest = torch.cdist(written.means, positions).argmin(1)
    torch.testing.assert_close(positions[nearest], written.means, atol=1e-4, rtol=0)
    largest = torch.from_numpy(quats[:, 3] - 252)[nearest]  # of (w, x, y, z)
    assert torch.equal(written.quats.abs().argmax(-1), largest)


@needs_gaussforge
def test_ksplat_holds_the_usual_sections(tmp_path: Path) -> None:
    """mkkellogg's: 4096 bytes, 1024 of one section, then position, scale, rotation (w first), RGBA; no compression.

    Coefficients: those of degree 1, channel by channel, then those of degree 2.
    """
    written = scene(count=4, degree=2)
    write_gaussians(written, tmp_path / "a.ksplat")
    data = (tmp_path / "a.ksplat").read_bytes()[4096 + 1024 :]
    records = np.frombuffer(data, [("floats", "<f4", 10), ("rgba", "u1", 4), ("sh", "<f4", 24)], count=4)
    np.testing.assert_array_equal(records["floats"][:, :3], written.means.numpy())
    np.testing.assert_allclose(records["floats"][:, 3:6], written.scales.numpy(), rtol=1e-5)
    np.testing.assert_allclose(records["floats"][:, 6:], written.quats.numpy(), atol=1e-6)
    np.testing.assert_allclose(records["rgba"][:, :3] / 255, written.rgb.numpy(), atol=0.005)
    np.testing.assert_allclose(records["sh"][:, :9], written.sh[:, 1:4].mT.flatten(1).numpy(), atol=1e-6)
    np.testing.assert_allclose(records["sh"][:, 9:], written.sh[:, 4:9].mT.flatten(1).numpy(), atol=1e-6)


# ---- files by other programs, in tests/unit/export/elsewhere, from the Gaussians of six.ply


def elsewhere(name: str) -> tuple[Gaussians, Gaussians]:
    """What such a file holds, and what it was made from, in the same order."""
    original = read_gaussians(ELSEWHERE / "six.ply")
    return matched(read_gaussians(ELSEWHERE / name), original), original


@pytest.mark.parametrize("name", ["gsply.ply", "splat_transform.ply"])
def test_ply_files_of_others_are_read(name: str) -> None:
    """By gsply 0.4.6 and splat-transform 3.7, of degree 3; with other orders of properties."""
    found, original = elsewhere(name)
    assert found.sh.shape == (6, 16, 3)
    for field, values in vars(original).items():
        torch.testing.assert_close(getattr(found, field), values, atol=1e-6, rtol=0)


@needs_gaussforge
@pytest.mark.parametrize("kind", ["spz", "compressed.ply"])
def test_packed_files_of_others_are_read(kind: str) -> None:
    """By splat-transform 3.7; its .spz is version 4. It leaves the axes as they are, and so do we."""
    position, colour, opacity, scale, covariance, rest = TOLERANCES[kind]
    found, original = elsewhere(f"splat_transform.{kind}")
    torch.testing.assert_close(found.means, original.means, atol=position, rtol=0)
    torch.testing.assert_close(found.opacities, original.opacities, atol=opacity, rtol=0)
    torch.testing.assert_close(found.scales.log(), original.scales.log(), atol=scale, rtol=0)
    torch.testing.assert_close(shape(found), shape(original), atol=covariance, rtol=0)
    torch.testing.assert_close(found.rgb, original.rgb, atol=colour, rtol=0)
    torch.testing.assert_close(found.sh[:, 1:], original.sh[:, 1:], atol=rest, rtol=0)


# ---- damage


@needs_gaussforge
@pytest.mark.parametrize("kind", PACKED)
def test_damaged_files_are_refused_and_never_end_the_process(tmp_path: Path, kind: str) -> None:
    """Cut files of some of these formats crash gaussforge itself."""
    path = tmp_path / f"a.{kind}"
    write_gaussians(scene(count=40, degree=1), path)
    sound = path.read_bytes()
    noise = np.random.default_rng(0).bytes(len(sound))
    for damage in (b"", sound[:9], sound[: len(sound) // 2], noise):
        path.write_bytes(damage)
        with pytest.raises(InputError) as caught:
            read_gaussians(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


@needs_gaussforge
def test_a_small_file_cannot_ask_for_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """65 MB of zeros in 64 kB; they would become 240 MB of numbers, several times over."""
    count = 1_000_000
    header = np.array([0x5053474E, 3, count], "<u4").tobytes() + bytes([3, 12, 0, 0])
    (tmp_path / "bomb.spz").write_bytes(gzip.compress(header + bytes(65 * count)))
    monkeypatch.setattr(packed, "BASE_MEMORY", 400_000_000)
    with pytest.raises(InputError, match=r"bomb\.spz: expected .* spz file"):
        read_gaussians(tmp_path / "bomb.spz")


FOUND_BY_FUZZING = [  # `python benchmarks/fuzz_files.py --case KIND NUMBER`
    ("glb", 103),  # 900,000 nodes: a minute and 900 MB for 2.7 MB
    ("ply-ascii", 12),  # five million empty lines
    ("ply-ascii", 76),  # a header of 100,000 lines
    ("ply", 161),  # messages as long as the file's lines
    ("ply", 129),
    ("splat", 204),
]


@pytest.mark.parametrize(("kind", "number"), [*FOUND_BY_FUZZING, *((kind, 7) for kind in OWN_KINDS)])
def test_fuzzed_files_are_read_or_refused_in_bounded_memory(tmp_path: Path, kind: str, number: int) -> None:
    path = tmp_path / f"case{file_suffix(kind)}"
    path.write_bytes(damaged_file(kind, number))
    tracemalloc.start()
    try:
        found = refused_or(read_gaussians, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6 + 48 * path.stat().st_size
    if found is not None:
        assert all(bool(values.isfinite().all()) for values in vars(found).values())


@needs_gaussforge
@pytest.mark.parametrize("kind", PACKED)
def test_fuzzed_packed_files_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    for number in range(3):
        path = tmp_path / f"case{file_suffix(kind)}"
        path.write_bytes(damaged_file(kind, number))
        found = refused_or(read_gaussians, path)
        assert found is None or len(found) > 0


# ---- the door


def test_suffixes_choose_and_unknown_ones_are_told(tmp_path: Path) -> None:
    for name, found in {"a.usd": "'.usd'", "a": "none"}.items():
        with pytest.raises(InputError, match=rf"\.ply, \.compressed\.ply, .*, found {found}"):
            write_gaussians(scene(2), tmp_path / name)
        with pytest.raises(InputError, match=rf"found {found}"):
            read_gaussians(tmp_path / name)
    with pytest.raises(InputError, match="No such file"):
        read_gaussians(tmp_path / "none.ply")
    with pytest.raises(InputError, match="No such file"):
        read_gaussians(tmp_path / "none.splat")
    write_gaussians(scene(2), tmp_path / "a.PLY")
    assert len(read_gaussians(tmp_path / "a.PLY")) == 2


def test_packed_formats_need_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"a\.sog: .*pip install 'mouselift\[files\]'"):
        write_gaussians(scene(2), tmp_path / "a.sog")
    with pytest.raises(InputError, match=r"mouselift\[files\]"):
        read_gaussians(tmp_path / "a.spz")
    assert list(tmp_path.iterdir()) == []


@needs_gaussforge
def test_what_packed_formats_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one Gaussian"):
        write_gaussians(scene(0), tmp_path / "a.sog")
    far = scene(3)
    far.means[1, 2] = 3000.0
    with pytest.raises(InputError, match="within 2048 units"):
        write_gaussians(far, tmp_path / "a.spz")
    with pytest.raises(InputError, match="no such file"):
        read_gaussians(tmp_path / "none.spz")
    assert list(tmp_path.iterdir()) == []


# ---- units


def placement() -> Similarity:
    """As a rig has it: a mouse 300 mm from the origin, 80 mm to a scene unit."""
    turn = random_similarity(seeded(4)).rotation
    return Similarity(
        scale=torch.tensor(1 / 80, dtype=torch.float64),
        rotation=turn,
        translation=turn @ torch.tensor([-250.0, 130.0, -40.0], dtype=torch.float64) / 80,
    )


def test_mm_of_the_world_and_back(tmp_path: Path) -> None:
    scene_from_world, written = placement(), scene(50)
    write_ply(written, tmp_path / "scene.ply", scene_from_world=scene_from_world)
    world = convert(tmp_path / "scene.ply", tmp_path / "mm.ply", units="mm")
    assert world.units == "mm"
    found = read_placed(tmp_path / "mm.ply")
    assert found.units == "mm"
    expected = scene_from_world.inverse().apply(written.means.double())
    torch.testing.assert_close(found.gaussians.means.double(), expected, atol=1e-3, rtol=0)  # micrometres
    torch.testing.assert_close(found.gaussians.scales, 80 * written.scales, rtol=1e-4, atol=0)
    assert not torch.allclose(found.gaussians.sh[:, 1:], written.sh[:, 1:], atol=0.1)  # appearance turns with it
    convert(tmp_path / "mm.ply", tmp_path / "again.ply", units="mm")  # is in mm already
    torch.testing.assert_close(read_ply(tmp_path / "again.ply").means, found.gaussians.means)
    convert(tmp_path / "mm.ply", tmp_path / "back.ply", units="scene")
    back = read_placed(tmp_path / "back.ply")
    assert back.units == "scene"
    torch.testing.assert_close(back.gaussians.means, written.means, atol=1e-5, rtol=0)
    torch.testing.assert_close(back.gaussians.sh, written.sh, atol=1e-5, rtol=0)
    torch.testing.assert_close(shape(back.gaussians), shape(written), atol=1e-5, rtol=0)


@needs_gaussforge
def test_mm_reach_other_formats(tmp_path: Path) -> None:
    write_ply(scene(50), tmp_path / "a.ply", scene_from_world=placement())
    convert(tmp_path / "a.ply", tmp_path / "a.spz", units="mm")
    expected = placement().inverse().apply(scene(50).means.double()).float()
    torch.testing.assert_close(read_gaussians(tmp_path / "a.spz").means, expected, atol=3e-4, rtol=0)


def test_the_placement_is_kept_exactly_and_needed(tmp_path: Path) -> None:
    write_ply(scene(3), tmp_path / "a.ply", scene_from_world=placement(), minimal=True, degree=0)
    kept = read_placed(tmp_path / "a.ply").scene_from_world
    assert kept is not None
    torch.testing.assert_close(kept.matrix(), placement().matrix(), atol=1e-12, rtol=1e-12)
    write_ply(scene(3), tmp_path / "b.ply")
    assert read_placed(tmp_path / "b.ply").scene_from_world is None
    with pytest.raises(InputError, match=r"b\.ply: expected to know where the scene lies"):
        convert(tmp_path / "b.ply", tmp_path / "c.ply", units="mm")
    convert(tmp_path / "b.ply", tmp_path / "c.ply", units="mm", scene_from_world=placement())
    assert read_placed(tmp_path / "c.ply").units == "mm"


def test_a_sample_tells_the_placement(tmp_path: Path) -> None:
    file = tmp_path / "opencv_cameras.json"
    file.write_text(json.dumps({"scene_from_world": placement().matrix().tolist(), "frames": []}))
    torch.testing.assert_close(read_scene_from_world(tmp_path).matrix(), placement().matrix())
    for text in ("{}", "[]", "{", json.dumps({"scene_from_world": [1, 2]})):
        file.write_text(text)
        with pytest.raises(InputError, match="expected a similarity scene_from_world"):
            read_scene_from_world(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_scene_from_world(tmp_path / "none")
