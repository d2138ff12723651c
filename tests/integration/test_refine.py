"""`mouselift refine`: from a sample to a result folder with the figures of the camera left out, and every refusal."""

import json
from pathlib import Path

import pytest
import torch
from commands import run_command
from splats import animal

from mouselift import read_ply
from mouselift.data.layout import read_sample, write_sample
from mouselift.export.ply import write_ply
from mouselift.geometry import Gaussians, Similarity
from mouselift.geometry.rigs import orbit
from mouselift.geometry.transforms import look_at
from mouselift.optimise import OptimiseConfig, compare_left_out, optimise_sample
from mouselift.synth.scene import photograph

WORLD = Similarity(
    scale=torch.tensor(0.02),
    rotation=look_at(torch.tensor([1.0, 2, 0]), torch.zeros(3))[:3, :3],
    translation=torch.tensor([0.1, 0.2, 0.3]),
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample_000000"
    cameras = orbit([60.0 * i for i in range(6)], [10.0, 40.0] * 3, fov_deg=40, size_px=48, names=list("abcdef"))
    views = photograph(animal(), cameras)
    write_sample(folder, views, sample_id=folder.name, frame_index=0, scene_from_world=WORLD)
    return folder


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit status, and what was written to stdout and stderr."""
    return run_command(monkeypatch, capsys, "refine", *arguments)


def test_a_camera_left_out_is_shown_better_than_by_the_hull_and_the_nearest_view(
    tmp_path, monkeypatch, capsys, sample
) -> None:
    out = tmp_path / "out"
    status, printed, bar = run(
        monkeypatch, capsys, str(sample), "-o", str(out), "--input-views", "0,1,2,3,4", "--steps", "60"
    )
    assert status == 0
    assert "60/60" in bar
    assert "view f left out" in printed
    assert {"gaussians.ply", "left_out.png", "summary.json", "turntable.mp4", "viewer.html", "views.png"} == {
        path.name for path in out.iterdir()
    }
    summary = json.loads((out / "summary.json").read_text())
    figures = summary["left_out"]["f"]
    assert set(figures) == {"refine", "visual_hull", "nearest_view"}
    for way in ("visual_hull", "nearest_view"):
        assert figures["refine"]["psnr_fg"] > figures[way]["psnr_fg"]
    assert figures["refine"]["iou_alpha"] > 0.9
    assert summary["num_gaussians"] == len(read_ply(out / "gaussians.ply"))


def test_all_views_leave_none_out(tmp_path, monkeypatch, capsys, sample) -> None:
    out = tmp_path / "out"
    assert run(monkeypatch, capsys, str(sample), "-o", str(out), "--steps", "1")[0] == 0
    assert "left_out" not in json.loads((out / "summary.json").read_text())
    assert not (out / "left_out.png").exists()


def test_a_file_is_gone_on_from_whatever_its_units(tmp_path, sample) -> None:
    read = read_sample(sample)
    in_scene, in_mm = tmp_path / "scene.ply", tmp_path / "mm.ply"
    write_ply(animal(), in_scene)
    world = read.scene_from_world
    write_ply(animal().transformed(world.inverse()), in_mm, units="mm", scene_from_world=world)
    for path in (in_scene, in_mm):
        scene = optimise_sample(read, [0, 1, 2], config=OptimiseConfig(init=path, steps=0)).gaussians
        torch.testing.assert_close(scene.means, animal().means, atol=1e-4, rtol=0)


def test_the_nearest_view_is_that_of_the_nearest_camera(sample) -> None:
    read = read_sample(sample)
    compared = compare_left_out(read, [0, 2, 3], {"truth": animal()})
    assert compared is not None
    white = torch.ones(3)
    first = compared.pictures["nearest_view"][2]  # view 5 stands between 4, left out, and 0
    torch.testing.assert_close(first, read.views[[0]].over(white).images[0], atol=0.02, rtol=0)
    assert float(compared.figures["truth"]["psnr_fg"].min()) > 35


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--input-views", "0"], "at least 2 different input views"),
        (["--input-views", "0,0"], "at least 2 different input views"),
        (["--input-views", "0,9"], "input views among 0 to 5"),
        (["--input-views", "0,x"], "numbers of views"),
        (["--init", "nowhere.ply"], "expected --init hull, gslrm or a file"),
        (["--steps", "-1"], "0 to 100000 steps"),
        (["--opacity-weight", "nan"], "opacity_weight to be 0 or more"),
        (["--prune-every", "-1"], "0 or more steps"),
        (["--device", "tpu"], "device auto, cpu or cuda"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, sample, options, said) -> None:
    status, _, message = run(monkeypatch, capsys, str(sample), "-o", str(tmp_path / "out"), *options)
    assert status == 2
    assert said in message
    assert len(message.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_gaussians_that_no_view_sees_are_refused(tmp_path, monkeypatch, capsys, sample) -> None:
    path, far = tmp_path / "far.ply", animal()
    write_ply(
        Gaussians(means=far.means + 100, quats=far.quats, scales=far.scales, opacities=far.opacities, sh=far.sh), path
    )
    status, _, message = run(monkeypatch, capsys, str(sample), "-o", str(tmp_path / "out"), "--init", str(path))
    assert status == 2
    assert "found none of 400 there" in message


def test_an_interruption_leaves_earlier_results_alone(tmp_path, monkeypatch, capsys, sample) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("an earlier result")

    def stop(*_, **__) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mouselift.optimise.refine", stop)
    status, _, message = run(monkeypatch, capsys, str(sample), "-o", str(out), "--overwrite")
    assert (status, message.strip()) == (130, "mouselift: interrupted")
    assert [path.name for path in out.iterdir()] == ["precious.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
