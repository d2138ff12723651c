import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import random_gaussians, random_views, seeded

from mouselift.errors import InputError
from mouselift.export import viewer_html
from mouselift.export.sequence import Sequence4D
from mouselift.export.viewer_html import viewer_page, write_viewer_html
from mouselift.export.viewer_pack import pack, packing_of
from mouselift.geometry import Gaussians
from mouselift.geometry.sh import SH_C0, dc_from_rgb
from mouselift.geometry.transforms import quat_to_rotmat


def sequence(*frames: Gaussians, name: str = "model") -> Sequence4D:
    return Sequence4D(name=name, frames=frames, frame_names=[f"t{k}" for k in range(len(frames))])


def scene_of(page: str) -> dict:
    found = re.search(r"const scene = (\{.*?\});", page)
    assert found
    return json.loads(found[1])


def block_of(page: str, model: int, frame: int) -> bytes:
    found = re.search(rf'<script id="m{model}f{frame}" type="text/plain">(.*?)</script>', page)
    assert found
    return base64.b64decode(found[1])


def test_a_block_holds_the_gaussians() -> None:
    gaussians = random_gaussians(seeded(0), count=9).to(torch.float32)
    packing = packing_of([gaussians])
    data = pack(gaussians, packing)
    assert len(data) == 9 * packing.bytes_per_gaussian
    first = np.frombuffer(data, dtype=[("mean", "<f4", 3), ("rgba", "u1", 4)], count=9)
    np.testing.assert_array_equal(first["mean"], gaussians.means.numpy())
    np.testing.assert_allclose(first["rgba"][:, 3] / 255, gaussians.opacities.numpy(), atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(first["rgba"][:, :3] / 255, gaussians.rgb.clamp(0, 1).numpy(), atol=0.5 / 255 + 1e-6)
    upper = np.frombuffer(data[9 * 16 :], dtype="<f2").reshape(9, 6).astype(np.float32) * packing.covariance_unit
    rotation = quat_to_rotmat(gaussians.quats)
    expected = rotation @ torch.diag_embed(gaussians.scales**2) @ rotation.mT
    rows, columns = np.triu_indices(3)
    tolerance = 1e-3 * float(expected.abs().max())
    np.testing.assert_allclose(upper, expected[:, rows, columns].numpy(), atol=tolerance)


@pytest.mark.parametrize("scale", [1e-4, 0.3, 40.0])  # scene units, or millimetres
def test_covariances_of_every_size_keep_three_digits(scale: float) -> None:
    pair = Gaussians(
        means=torch.zeros(2, 3),
        quats=torch.tensor([[1.0, 0, 0, 0]]).expand(2, 4),
        scales=torch.tensor([[scale], [scale / 1000]]).expand(2, 3),
        opacities=torch.ones(2),
        sh=dc_from_rgb(torch.full((2, 1, 3), 0.5)),
    )
    packing = packing_of([pair])
    stored = np.frombuffer(pack(pair, packing)[32:], dtype="<f2").astype(np.float64) * packing.covariance_unit
    assert stored[[0, 6]] == pytest.approx([scale**2, (scale / 1000) ** 2], rel=1e-3)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_harmonics_are_packed_with_the_colour_that_bytes_cannot_hold(degree: int) -> None:
    gaussians = random_gaussians(seeded(0), count=50, degree=degree).to(torch.float32)
    packing = packing_of([gaussians])
    data = np.frombuffer(pack(gaussians, packing)[50 * 28 :], dtype="i1").reshape(50, 16 * degree)
    count = (degree + 1) ** 2
    stored = data[:, : 3 * count].reshape(50, count, 3) * packing.harmonic_unit
    largest = packing.harmonic_unit * 127
    half_step = 0.501 * packing.harmonic_unit
    expected = gaussians.sh[:, 1:].clamp(-largest, largest)
    np.testing.assert_allclose(stored[:, 1:], expected.numpy(), atol=half_step)
    whole = gaussians.rgb.clamp(0, 1).numpy() + SH_C0 * stored[:, 0]
    np.testing.assert_allclose(whole, gaussians.rgb.numpy(), atol=SH_C0 * half_step + 1e-6)
    assert not data[:, 3 * count :].any()


def test_frames_of_different_degrees_share_a_packing() -> None:
    low, high = (random_gaussians(seeded(0), count=4, degree=k).to(torch.float32) for k in (0, 2))
    packing = packing_of([low, high])
    assert packing.degree == 2
    assert len(pack(low, packing)) == len(pack(high, packing)) == 4 * packing.bytes_per_gaussian


def test_every_frame_of_every_model_is_in_the_page() -> None:
    frames = [random_gaussians(seeded(k), count=k + 2).to(torch.float32) for k in range(3)]
    page = "".join(viewer_page([sequence(*frames[:2]), sequence(frames[2], name="still")]))
    models = scene_of(page)["models"]
    assert [[frame["count"] for frame in model["frames"]] for model in models] == [[2, 3], [4]]
    assert [len(block_of(page, *place)) for place in [(0, 0), (0, 1), (1, 0)]] == [2 * 28, 3 * 28, 4 * 28]


def test_cameras_come_with_their_pictures() -> None:
    views = random_views(seeded(0), 2).to(torch.float32)
    page = "".join(viewer_page([sequence(random_gaussians(seeded(0)).to(torch.float32))], photographs=views))
    cameras = scene_of(page)["cameras"]
    assert len(cameras) == 2
    assert cameras[1]["skew"] == pytest.approx(float(views.cameras.K[1, 0, 1]))
    np.testing.assert_allclose(cameras[1]["centre"], views.cameras.centres[1], atol=1e-6)
    assert base64.b64decode(cameras[0]["picture"].partition(",")[2])[:2] == b"\xff\xd8"  # JPEG


def test_the_page_needs_no_network_and_no_server() -> None:
    page = "".join(viewer_page([sequence(random_gaussians(seeded(0)).to(torch.float32))]))
    assert "default-src 'none'" in page
    assert "{{" not in page
    assert not re.search(r"https?://|\bimport\b|\bfetch\b|new Worker", page)


def test_names_are_text_wherever_they_stand(tmp_path: Path) -> None:
    evil = "</script><b>A & B</b>"
    gaussians = random_gaussians(seeded(0)).to(torch.float32)
    write_viewer_html(gaussians, tmp_path / "a.html", title=evil)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert scene_of(page)["models"][0]["name"] == evil


def test_no_gaussians_still_make_a_page() -> None:
    page = "".join(viewer_page([sequence(random_gaussians(seeded(0), count=0).to(torch.float32))]))
    assert block_of(page, 0, 0) == b""


def test_too_much_for_a_browser_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_html, "LARGEST_PAGE_BYTES", 100)
    with pytest.raises(InputError, match="--every"):
        "".join(viewer_page([sequence(random_gaussians(seeded(0), count=4).to(torch.float32))]))


def test_unwritable_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a place to write to"):
        write_viewer_html(random_gaussians(seeded(0)).to(torch.float32), tmp_path / "none" / "a.html")
