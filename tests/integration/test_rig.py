"""From a calibrated recording to Gaussians in the rig's own millimetres."""

import json
from pathlib import Path

import pytest
from commands import run_command
from rig_recordings import AXES_MM, centre_at, write_rig_recording

from mouselift import read_ply
from mouselift.data.layout import read_sample
from mouselift.data.plan import PrepareConfig
from mouselift.data.recording import open_recording
from mouselift.export.files import convert
from mouselift.export.ply import read_placed_ply
from mouselift.export.result import write_result
from mouselift.export.sequence import read_sequence
from mouselift.prepare import prepare
from mouselift.reconstruct import ReconstructConfig, reconstruct_sample


def test_a_rig_reconstruction_converts_to_mm_of_the_rigs_world(tmp_path: Path) -> None:
    recording = open_recording(write_rig_recording(tmp_path / "rig", 4))
    prepare(recording, PrepareConfig(size_px=128, val_share=0.0), tmp_path / "set", progress=False)
    sample = read_sample(tmp_path / "set" / "sample_000002")
    result = reconstruct_sample(sample, [0, 1, 2, 3], config=ReconstructConfig(refine_steps=5))
    write_result(result, tmp_path / "out")
    convert(tmp_path / "out" / "gaussians.ply", tmp_path / "mm.ply", units="mm")
    world = read_ply(tmp_path / "mm.ply").pruned(0.5)
    assert (world.means.mean(0) - centre_at(2)).norm() < 5.0  # mm
    assert (world.means.amax(0) - world.means.amin(0)).max() < 2 * AXES_MM.max() + 25


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit status, and what was written to stdout and stderr."""
    return run_command(monkeypatch, capsys, "reconstruct", *arguments)


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    return write_rig_recording(tmp_path_factory.mktemp("recording") / "rig", 4)


def test_an_instant_of_a_recording_becomes_gaussians_in_mm(tmp_path, monkeypatch, capsys, recording) -> None:
    out = tmp_path / "out"
    arguments = ["--recording", str(recording), "--frame", "2", "--units", "mm", "--refine", "5", "-o", str(out)]
    assert run(monkeypatch, capsys, *arguments)[0] == 0
    placed = read_placed_ply(out / "gaussians.ply")
    assert placed.units == "mm"
    solid = placed.gaussians.pruned(0.5)
    assert (solid.means.mean(0) - centre_at(2)).norm() < 5.0  # mm
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frame"].startswith("mm")
    assert summary["num_input_views"] == 4


def test_several_instants_become_a_sequence(tmp_path, monkeypatch, capsys, recording) -> None:
    out = tmp_path / "out"
    arguments = ["--recording", str(recording), "--frames", "1:4:2", "--input-views", "0,1,3", "--refine", "0"]
    assert run(monkeypatch, capsys, *arguments, "-o", str(out))[0] == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "instant_000001",
        "instant_000003",
        "sequence.mp4",
        "summary.json",
    ]
    sequence = read_sequence(out)
    assert len(sequence.frames) == 2
    first, second = (read_placed_ply(out / f"instant_00000{k}" / "gaussians.ply") for k in (1, 3))
    centres = []
    for placed in (first, second):
        assert placed.scene_from_world is not None
        world = placed.gaussians.transformed(placed.scene_from_world.inverse()).pruned(0.5)
        centres.append(world.means.mean(0))
    moved, expected = centres[1] - centres[0], (centre_at(3) - centre_at(1)).float()
    assert (moved - expected).norm() < 2.0  # mm


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--frame 123 or --frames"),
        (["--frame", "1", "--frames", "0:2"], "--frame 123 or --frames"),
        (["--frames", "3"], "expected instants as in 0:300:30"),
        (["--frames", "3:3"], "expected instants first:end:every"),
        (["--frame", "9"], "found 4 instants"),
        (["--frame", "1", "--input-views", "0,7"], "expected input views among 0 to 3"),
    ],
    ids=["no instant", "both", "no range", "empty range", "after the end", "no such camera"],
)
def test_what_cannot_be_read_from_a_recording_is_said(
    tmp_path, monkeypatch, capsys, recording, arguments, message
) -> None:
    status, _, said = run(monkeypatch, capsys, "--recording", str(recording), *arguments, "-o", str(tmp_path / "out"))
    assert status == 2
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_picture_has_no_millimetres(tmp_path, monkeypatch, capsys) -> None:
    status, _, said = run(monkeypatch, capsys, "mouse.png", "--units", "mm", "-o", str(tmp_path / "out"))
    assert status == 2
    assert "no calibration" in said
