"""`view`, `film` and `sheet` as users call them."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import av
import pytest
import torch
from PIL import Image
from samples import random_gaussians, seeded

from mouselift.cli import main
from mouselift.data.layout import write_sample
from mouselift.export.files import write_gaussians
from mouselift.geometry import Similarity, Views
from mouselift.geometry.rigs import mouse_rig
from mouselift.render import render


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_gaussians(random_gaussians(seeded(0), count=50).to(torch.float32), tmp_path / "a.ply")
    return tmp_path / "a.ply"


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    gaussians = random_gaussians(seeded(0), count=50).to(torch.float32)
    cameras = mouse_rig(size_px=24)
    output = render(gaussians, cameras)
    views = Views(images=output.image.clamp(0, 1), masks=output.alpha, cameras=cameras)
    write_sample(
        tmp_path / "sample_000000", views, sample_id="s", frame_index=0, scene_from_world=Similarity.identity()
    )
    return tmp_path / "sample_000000"


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mouselift", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_page_holds_every_model_and_camera(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path, sample: Path
) -> None:
    write_gaussians(random_gaussians(seeded(1), count=9).to(torch.float32), tmp_path / "b.splat")
    page = tmp_path / "page.html"
    assert run(monkeypatch, "view", model, tmp_path / "b.splat", "--sample", sample, "--html", page) == 0
    text = page.read_text(encoding="utf-8")
    assert "<title>a, b</title>" in text
    assert all(f'<script id="m{k}f0"' in text for k in range(2))
    assert '"name": "front_left"' in text


def test_models_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path) -> None:
    page = tmp_path / "page.html"
    assert run(monkeypatch, "view", model, model.with_suffix(".splat"), "--html", page) == 2
    write_gaussians(random_gaussians(seeded(1), count=9).to(torch.float32), tmp_path / "a.splat")
    assert run(monkeypatch, "view", model, model.with_suffix(".splat"), "--html", page) == 0
    assert "a.ply, " in page.read_text(encoding="utf-8")


def test_the_page_is_served_until_interrupted(model: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    command = [sys.executable, "-m", "mouselift.cli", "view", str(model), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert address
        with urllib.request.urlopen(address[0], timeout=30) as answer:
            assert '<script id="m0f0"' in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


def test_films_in_every_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path) -> None:
    options = ["--seconds", "0.25", "--size-px", "32"]
    assert run(monkeypatch, "film", model, "-o", tmp_path / "a.mp4", *options) == 0
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6
    for name in ("a.gif", "a.webp"):
        assert run(monkeypatch, "film", model, "-o", tmp_path / name, "--path", "fly", *options) == 0
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (32, 32)


def test_a_sequence_lasts_as_long_as_it_has_frames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in range(3):
        write_gaussians(random_gaussians(seeded(k), count=9).to(torch.float32), folder / f"{k}.ply")
    assert run(monkeypatch, "film", folder, "-o", tmp_path / "a.mp4", "--size-px", "16") == 0
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_sheets_with_and_without_truth(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path, sample: Path
) -> None:
    assert run(monkeypatch, "sheet", model, "-o", tmp_path / "a.png", "-n", "2", "--size-px", "32") == 0
    assert run(monkeypatch, "sheet", model, "-o", tmp_path / "b.png", "--sample", sample) == 0
    with Image.open(tmp_path / "a.png") as around, Image.open(tmp_path / "b.png") as beside:
        assert around.width < beside.width  # two views, five columns
        assert around.height < beside.height  # three layers, six views


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["view", "none.ply"], "none.ply"),
        (["view", "a.ply", "--fps", "0"], "frames a second"),
        (["film", "a.ply", "-o", "a.avi"], "expected a suffix"),
        (["film", "a.ply", "-o", "a.mp4", "--background", "mauvish"], "expected a colour"),
        (["film", "a.ply", "-o", "a.mp4", "--seconds", "0"], "more than 0 s"),
        (["sheet", "a.ply", "-o", "a.png", "-n", "0"], "at least 1 view"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(model.parent)
    assert run(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
