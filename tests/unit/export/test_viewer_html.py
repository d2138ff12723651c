import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import random_gaussians, seeded

from mouselift.errors import InputError
from mouselift.export.viewer_html import COVARIANCE_UNIT, write_viewer_html
from mouselift.geometry import Gaussians
from mouselift.geometry.sh import dc_from_rgb
from mouselift.geometry.transforms import quat_to_rotmat


def page_of(gaussians: Gaussians, folder: Path, title: str = "A mouse") -> str:
    write_viewer_html(gaussians, folder / "a.html", title)
    return (folder / "a.html").read_text(encoding="utf-8")


def embedded(page: str) -> bytes:
    found = re.search(r'<script id="gaussians" type="text/plain">(.*?)</script>', page)
    assert found
    return base64.b64decode(found[1])


def scene_of(page: str) -> dict[str, float]:
    found = re.search(r"const scene = (\{.*?\});", page)
    assert found
    return json.loads(found[1])


def test_the_page_holds_the_gaussians(tmp_path: Path) -> None:
    gaussians = random_gaussians(seeded(0), count=9).to(torch.float32)
    data = embedded(page_of(gaussians, tmp_path))
    first = np.frombuffer(data, dtype=[("mean", "<f4", 3), ("rgba", "u1", 4)], count=9)
    np.testing.assert_array_equal(first["mean"], gaussians.means.numpy())
    np.testing.assert_allclose(first["rgba"][:, 3] / 255, gaussians.opacities.numpy(), atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(first["rgba"][:, :3] / 255, gaussians.rgb.clamp(0, 1).numpy(), atol=0.5 / 255 + 1e-6)
    upper = np.frombuffer(data[9 * 16 :], dtype="<f2").reshape(9, 6).astype(np.float32) * COVARIANCE_UNIT
    rotation = quat_to_rotmat(gaussians.quats)
    expected = rotation @ torch.diag_embed(gaussians.scales**2) @ rotation.mT
    rows, columns = np.triu_indices(3)
    tolerance = 1e-3 * float(expected.abs().max())
    np.testing.assert_allclose(upper, expected[:, rows, columns].numpy(), atol=tolerance)


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 0.3, 1.5])
def test_covariances_of_every_size_keep_three_digits(tmp_path: Path, scale: float) -> None:
    one = Gaussians(
        means=torch.zeros(1, 3),
        quats=torch.tensor([[1.0, 0, 0, 0]]),
        scales=torch.full((1, 3), scale),
        opacities=torch.ones(1),
        sh=dc_from_rgb(torch.full((1, 1, 3), 0.5)),
    )
    stored = np.frombuffer(embedded(page_of(one, tmp_path))[16:], dtype="<f2").astype(np.float64) * COVARIANCE_UNIT
    assert stored[0] == pytest.approx(scale**2, rel=1e-3)


def test_the_camera_fits_the_visible_subject(tmp_path: Path) -> None:
    gaussians = random_gaussians(seeded(0), count=2000).to(torch.float32)
    centre = torch.tensor([0.3, -0.2, 0.1])
    inside = torch.nn.functional.normalize(gaussians.means, dim=-1) * 0.4 + centre
    inside[-1] = 50.0  # one stray far away
    moved = Gaussians(
        means=inside,
        quats=gaussians.quats,
        scales=gaussians.scales,
        opacities=torch.ones(2000),
        sh=gaussians.sh,
    )
    scene = scene_of(page_of(moved, tmp_path))
    np.testing.assert_allclose(scene["target"], centre, atol=0.05)
    radius = scene["distance"] * np.sin(scene["fov"] / 2)
    assert 0.4 < radius < 0.5


def test_no_gaussians_still_make_a_page(tmp_path: Path) -> None:
    page = page_of(random_gaussians(seeded(0), count=0).to(torch.float32), tmp_path)
    assert scene_of(page)["count"] == 0
    assert embedded(page) == b""


def test_the_page_needs_no_network_and_no_server(tmp_path: Path) -> None:
    page = page_of(random_gaussians(seeded(0), count=3).to(torch.float32), tmp_path)
    assert "default-src 'none'" in page
    assert "{{" not in page
    assert not re.search(r"https?://|\bimport\b|\bfetch\b|new Worker", page)


def test_titles_are_text(tmp_path: Path) -> None:
    page = page_of(random_gaussians(seeded(0), count=3).to(torch.float32), tmp_path, title="<b>A & B</b>")
    assert "<title>&lt;b&gt;A &amp; B&lt;/b&gt;</title>" in page


def test_unwritable_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a place to write to"):
        page_of(random_gaussians(seeded(0), count=3).to(torch.float32), tmp_path / "none")
