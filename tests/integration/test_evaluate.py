"""`mouselift evaluate`: what it writes, that its index reproduces its figures, and how it refuses."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_command
from models import random_models

from mouselift.data.layout import write_dataset, write_sample
from mouselift.evaluate.index import make_index, read_index, write_index
from mouselift.geometry import Cameras, Similarity, Views
from mouselift.geometry.rigs import orbit
from mouselift.models.checkpoint_io import save_weights

FILES = ["index.json", "metrics.json", "report.html", "table.md", "views.csv", "views.png"]
BASELINES = {"nearest_view", "mean_image", "blank"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[str]:
    """Options that name small random weights, and keep the run short."""
    folder, models = tmp_path_factory.mktemp("weights"), random_models()
    options = ["--refine", "2", "--scene-fit", "2", "--perceptual", "none"]
    for name in ("gslrm", "generator", "pose"):
        save_weights(getattr(models, name), folder / f"{name}.safetensors", {})
        options += [f"--{name}", str(folder / f"{name}.safetensors")]
    return options


def squares(cameras: Cameras) -> Views:
    count = len(cameras)
    masks = torch.zeros(count, 1, 64, 64)
    masks[..., 20:44, 20:44] = 1
    return Views(images=torch.full((count, 3, 64, 64), 0.3), masks=masks, cameras=cameras)


def write_set(root: Path, cameras: Cameras, count: int = 4, **extra: object) -> Path:
    names = [f"sample_{i:06d}" for i in range(count)]
    for index, name in enumerate(names):
        write_sample(
            root / name,
            squares(cameras),
            sample_id=name,
            frame_index=index,
            scene_from_world=Similarity.identity(),
            extra=extra,
        )
    write_dataset(root, {"train": names[:1], "val": names[1:]}, {"first_seed": 5})
    return root


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Path:
    ring = orbit([45.0 * i for i in range(8)], 20.0, fov_deg=30, size_px=64, names=[f"ring_{i}" for i in range(8)])
    free = orbit([10.0], [40.0], fov_deg=30, size_px=64, names=["framed_0"])
    return write_set(tmp_path_factory.mktemp("synthetic") / "set", Cameras.cat([ring, free]))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    rig = orbit([90.0 * i for i in range(4)], 20.0, fov_deg=30, size_px=64, names=list("abcd"))
    return write_set(tmp_path_factory.mktemp("recorded") / "set", rig, keypoints_scene=[[0.0, 0, 0], [1.0, 0, 0]])


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit status and what was written to stderr."""
    status, _, errors = run_command(monkeypatch, capsys, "evaluate", *arguments)
    return status, errors


def test_one_photograph_beside_every_baseline(tmp_path, monkeypatch, capsys, weights, synthetic) -> None:
    out = tmp_path / "out"
    assert run(monkeypatch, capsys, "--dataset", str(synthetic), "-o", str(out), "--limit", "2", *weights)[0] == 0
    assert sorted(path.name for path in out.iterdir()) == FILES
    methods = json.loads((out / "metrics.json").read_text())["methods"]
    assert set(methods) == {"feed_forward", "polished", *BASELINES}
    assert methods["blank"]["iou_alpha"]["mean"] == 0
    assert methods["nearest_view"]["iou_alpha"]["mean"] > 0.9  # all views of the square look the same
    lines = (out / "views.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 8 * 5
    assert "sample_000003" in (out / "report.html").read_text()  # limit spreads over the split


def test_several_counts_of_views_of_a_recording(tmp_path, monkeypatch, capsys, weights, recorded) -> None:
    out = tmp_path / "out"
    more = ["--num-views", "2,3", "--split", "both", "--limit", "1"]
    assert run(monkeypatch, capsys, "--dataset", str(recorded), "-o", str(out), *more, *weights)[0] == 0
    summary = json.loads((out / "metrics.json").read_text())
    groups = [(group["split"], group["num_views"]) for group in summary["groups"]]
    assert groups == [("val", 3), ("val", 2), ("train", 3), ("train", 2)]
    assert set(summary["methods"]) == {"feed_forward", "polished", "refine", "visual_hull", *BASELINES}
    labelled = summary["groups"][0]["keypoints"]["visual_hull"]["by_keypoint_mm"]
    assert labelled["keypoint 0"] < labelled["keypoint 1"]  # the second one lies a whole scene unit outside
    assert "NaN" not in (out / "metrics.json").read_text()
    page = (out / "report.html").read_text()
    assert "by number of given views" in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_an_index_gives_the_same_figures_again(tmp_path, monkeypatch, capsys, weights, recorded) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run(monkeypatch, capsys, "--dataset", str(recorded), "-o", str(first), "--num-views", "2", *weights)
    again = ["--index", str(first / "index.json")]
    assert run(monkeypatch, capsys, "--dataset", str(recorded), "-o", str(second), *again, *weights)[0] == 0
    assert (first / "views.csv").read_bytes() == (second / "views.csv").read_bytes()
    assert (first / "index.json").read_bytes() == (second / "index.json").read_bytes()


def test_labels_of_a_recording_replace_the_samples_own(tmp_path, monkeypatch, capsys, weights, recorded) -> None:
    np.savez(tmp_path / "labels.npz", keypoints_mm=np.full((4, 3, 3), 50.0))
    out = tmp_path / "out"
    more = ["--num-views", "3", "--limit", "1", "--keypoints", str(tmp_path / "labels.npz")]
    assert run(monkeypatch, capsys, "--dataset", str(recorded), "-o", str(out), *more, *weights)[0] == 0
    rows = list(csv.DictReader((out / "keypoints.csv").open()))
    hull = [float(row["distance_mm"]) for row in rows if row["method"] == "visual_hull"]
    assert len(hull) == 3
    assert all(85 < distance < 87 for distance in hull)  # the square's hull lies about the origin


def test_every_camera_of_a_recording_is_left_out_in_turn(recorded) -> None:
    index = make_index(recorded, [3, 2], splits=("val",))
    largest = [case for case in index.cases if len(case.given) == 3]
    assert {case.compared for case in largest} == {("a",), ("b",), ("c",)}
    for case in index.cases:
        assert not set(case.given) & set(case.compared)
    by_sample = {case.sample: case for case in largest}
    assert all(set(case.given) <= set(by_sample[case.sample].given) for case in index.cases)
    assert all(case.compared == by_sample[case.sample].compared for case in index.cases)


def test_given_views_are_spread(synthetic) -> None:
    (case,) = make_index(synthetic, [3], limit=1).cases
    assert case.given[0] == "framed_0"  # the photograph at 10 degrees
    azimuths = [45.0 * int(name[-1]) for name in case.given[1:]]
    assert min(abs((a - b + 180) % 360 - 180) for a, b in ((10, azimuths[0]), (10, azimuths[1]), azimuths)) >= 80


def test_an_index_survives_writing(tmp_path, synthetic) -> None:
    index = make_index(synthetic, [2], about="what it is for")
    write_index(index, tmp_path / "index.json")
    assert read_index(tmp_path / "index.json", synthetic) == index


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["dataset"].update(first_seed=7), "expected the dataset of"),
        (lambda r: r["cases"][0].update(given=["nobody"]), "expected views among"),
        (lambda r: r.pop("cases"), "expected an evaluation's index"),
        (lambda r: r.update(cases=[]), "at least one case"),
    ],
    ids=["another dataset", "unknown view", "no cases", "empty"],
)
def test_a_wrong_index_is_refused(tmp_path, monkeypatch, capsys, weights, recorded, change, message) -> None:
    write_index(make_index(recorded, [2], limit=1), tmp_path / "index.json")
    record = json.loads((tmp_path / "index.json").read_text())
    change(record)
    (tmp_path / "index.json").write_text(json.dumps(record))
    arguments = ["--dataset", str(recorded), "-o", str(tmp_path / "out"), "--index", str(tmp_path / "index.json")]
    status, said = run(monkeypatch, capsys, *arguments, *weights)
    assert status == 2
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("count", ["4", "0", "x"])
def test_impossible_numbers_of_views_are_refused(tmp_path, monkeypatch, capsys, weights, recorded, count) -> None:
    arguments = ["--dataset", str(recorded), "-o", str(tmp_path / "out"), "--num-views", count]
    status, said = run(monkeypatch, capsys, *arguments, *weights)
    assert status == 2
    assert said.startswith("mouselift: error: ")
    assert said.count("\n") == 1
