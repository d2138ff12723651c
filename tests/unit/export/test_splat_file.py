import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import refused_or
from hypothesis import given
from hypothesis import strategies as st
from samples import random_gaussians, seeded

from mouselift.errors import InputError
from mouselift.export.splat_file import read_splat, write_splat
from mouselift.geometry import Gaussians
from mouselift.geometry.sh import dc_from_rgb
from mouselift.geometry.transforms import quat_to_rotmat


def scene(count: int, seed: int) -> Gaussians:
    """Colours within [0, 1], which is what the format holds; the most visible Gaussian first."""
    some = random_gaussians(seeded(seed), count=count).to(torch.float32)
    order = torch.argsort(some.scales.double().prod(-1) * some.opacities, descending=True, stable=True)
    return Gaussians(
        means=some.means[order],
        quats=some.quats[order],
        scales=some.scales[order],
        opacities=some.opacities[order],
        sh=dc_from_rgb(some.sh.sigmoid())[order],
    )


def one(**fields: torch.Tensor) -> Gaussians:
    chosen = {
        "means": torch.tensor([[1.0, -2.0, 3.0]]),
        "quats": torch.tensor([[0.5, -0.5, 0.1, 0.7]]),
        "scales": torch.tensor([[0.1, 0.2, 0.4]]),
        "opacities": torch.tensor([0.4]),
        "sh": dc_from_rgb(torch.tensor([[[0.2, 0.6, 1.0]]])),
    }
    return Gaussians(**{**chosen, **fields})


@given(count=st.integers(0, 30), seed=st.integers(0, 100))
def test_what_is_written_is_read_back_within_its_steps(
    tmp_path_factory: pytest.TempPathFactory, count: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("splat") / "a.splat"
    written = scene(count, seed)
    write_splat(written, path)
    assert path.stat().st_size == 32 * count
    found = read_splat(path)
    assert torch.equal(found.means, written.means)
    assert torch.equal(found.scales, written.scales)
    torch.testing.assert_close(found.rgb, written.rgb, atol=0.5 / 255 + 1e-6, rtol=0)
    torch.testing.assert_close(found.opacities, written.opacities, atol=0.5 / 255 + 1e-6, rtol=0)
    turned = quat_to_rotmat(found.quats).mT @ quat_to_rotmat(written.quats)
    cosines = ((turned.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)
    assert float(torch.rad2deg(cosines.acos()).amax() if count else 0) < 1.2


def test_the_layout_is_that_of_the_format(tmp_path: Path) -> None:
    """Byte for byte: float positions and scales, RGBA, and the quaternion's w first."""
    write_splat(one(quats=torch.tensor([[0.5, -0.5, 0.1, 0.7]])), tmp_path / "a.splat")
    expected = struct.pack("<6f", 1, -2, 3, 0.1, 0.2, 0.4) + bytes([51, 153, 255, 102, 192, 64, 141, 218])
    assert (tmp_path / "a.splat").read_bytes() == expected


def test_a_quaternion_and_its_negative_are_one_rotation(tmp_path: Path) -> None:
    """-1 has a byte and +1 has none: w is made positive, and still the turn survives at the ends of the range."""
    for quat in ([1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, -1.0, 0], [0, 0, 0, 1.0]):
        write_splat(one(quats=torch.tensor([quat])), tmp_path / "a.splat")
        found = read_splat(tmp_path / "a.splat").quats[0]
        assert abs(float(found @ torch.tensor(quat))) == pytest.approx(1, abs=1e-6)


def test_what_does_not_fit_is_cut(tmp_path: Path) -> None:
    bright = one(sh=torch.tensor([[[9.0, -9.0, 0.0], [1.0, 1.0, 1.0], [0, 0, 0], [0, 0, 0]]]))
    write_splat(bright, tmp_path / "a.splat")
    found = read_splat(tmp_path / "a.splat")
    torch.testing.assert_close(found.rgb, torch.tensor([[1.0, 0.0, 0.5]]), atol=0.003, rtol=0)
    assert found.sh.shape == (1, 1, 3)


def test_the_most_visible_come_first(tmp_path: Path) -> None:
    shuffled = scene(20, 3).select(torch.ones(20, dtype=torch.bool))
    reverse = torch.arange(19, -1, -1)
    write_splat(shuffled._map(lambda t: t[reverse]), tmp_path / "a.splat")
    found = read_splat(tmp_path / "a.splat")
    assert torch.equal(found.means, shuffled.means)


@given(data=st.binary(max_size=200), cut=st.integers(0, 70))
def test_any_bytes_are_read_or_refused_with_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int
) -> None:
    path = tmp_path_factory.mktemp("splat") / "a.splat"
    write_splat(scene(2, 0), path)
    path.write_bytes(path.read_bytes()[:cut] + data)
    found = refused_or(read_splat, path)
    if found is not None:
        assert 32 * len(found) == path.stat().st_size
        assert all(bool(t.isfinite().all()) for t in vars(found).values())


@pytest.mark.parametrize(
    ("offset", "value", "complaint"),
    [
        (32 + 4, np.float32(np.nan).tobytes(), "finite positions, found others in Gaussian 1"),
        (12, np.float32(-1).tobytes(), "scales above 0, found others in Gaussian 0"),
        (32 + 20, np.float32(np.inf).tobytes(), "scales above 0, found others in Gaussian 1"),
        (28, bytes([128] * 4), "not all zero, found others in Gaussian 0"),
        (64, b"x", "expected 32 bytes for each Gaussian, found 65 bytes"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, offset: int, value: bytes, complaint: str) -> None:
    path = tmp_path / "a.splat"
    write_splat(scene(2, 0), path)
    data = path.read_bytes()
    path.write_bytes(data[:offset] + value + data[offset + len(value) :])
    with pytest.raises(InputError, match=complaint):
        read_splat(path)


def test_bad_places_and_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_splat(tmp_path / "none.splat")
    with pytest.raises(ValueError, match="one scene"):
        write_splat(random_gaussians(seeded(0), 2).to(torch.float32), tmp_path / "a.splat")
    with pytest.raises(ValueError, match="scales has values that are not finite"):
        write_splat(one(scales=torch.tensor([[0.1, torch.inf, 0.1]])), tmp_path / "a.splat")
    assert list(tmp_path.iterdir()) == []
