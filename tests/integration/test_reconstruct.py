"""From a picture or a sample to an output folder, with small random models; and every way it can be refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_command
from models import random_models
from PIL import Image

from mouselift import read_ply
from mouselift.data.layout import Sample, read_sample, sample_folder_name, write_dataset, write_sample
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Similarity, Views
from mouselift.geometry.rigs import azimuth_elevation_deg, orbit
from mouselift.models.checkpoint_io import save_weights
from mouselift.reconstruct import ReconstructConfig, reconstruct, reconstruct_sample

RESULTS = ["gaussians.ply", "mask.png", "summary.json", "turntable.mp4", "viewer.html", "views.png"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[str]:
    """Options that name small random weights on disk."""
    folder, models = tmp_path_factory.mktemp("weights"), random_models()
    options = ["--refine", "2"]
    for name in ("gslrm", "generator", "pose"):
        save_weights(getattr(models, name), folder / f"{name}.safetensors", {})
        options += [f"--{name}", str(folder / f"{name}.safetensors")]
    return options


def draw_picture(path: Path) -> Path:
    """A grey ellipse with alpha: the plainest mouse."""
    rows, columns = np.mgrid[:120, :160]
    inside = ((columns - 70) / 40) ** 2 + ((rows - 60) / 22) ** 2 <= 1
    rgba = np.full((120, 160, 4), 90, np.uint8)
    rgba[..., 3] = inside * 255
    Image.fromarray(rgba, "RGBA").save(path)
    return path


def write_samples(root: Path, count: int) -> Path:
    names = [sample_folder_name(i) for i in range(count)]
    for index, name in enumerate(names):
        ring = orbit([45.0 * i for i in range(8)], 20.0, fov_deg=30, size_px=64, names=[f"ring_{i}" for i in range(8)])
        free = orbit([10.0], [40.0], fov_deg=30, size_px=64, names=["framed_0"])
        masks = torch.zeros(9, 1, 64, 64)
        masks[..., 20:44, 20:44] = 1
        views = Views(images=torch.full((9, 3, 64, 64), 0.3), masks=masks, cameras=Cameras.cat([ring, free]))
        world = Similarity.identity()
        write_sample(root / name, views, sample_id=name, frame_index=index, scene_from_world=world)
    write_dataset(root, {"train": names[:1], "val": names[1:]}, {})
    return root


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit status and what was written to stderr."""
    status, _, errors = run_command(monkeypatch, capsys, *arguments)
    return status, errors


@pytest.mark.parametrize(
    "way", [["--unseen", "body"], ["--unseen", "generator", "--steps", "2"]], ids=["body", "generator"]
)
def test_a_picture_becomes_a_whole_folder(tmp_path, monkeypatch, capsys, weights, way) -> None:
    picture = draw_picture(tmp_path / "mouse.png")
    out = tmp_path / "out"
    status, _ = run(monkeypatch, capsys, "reconstruct", str(picture), "-o", str(out), *way, *weights)
    assert status == 0
    assert sorted(path.name for path in out.iterdir()) == RESULTS
    summary = json.loads((out / "summary.json").read_text())
    assert summary["num_gaussians"] == len(read_ply(out / "gaussians.ply"))
    assert summary["settings"]["unseen"] == way[1]
    assert ("keypoints_scene" in summary) == (way[1] == "body")
    assert summary["settings"]["elevation_is"] == "estimated"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mouse.png", "out"]


def test_same_seed_same_bytes(tmp_path, monkeypatch, capsys, weights) -> None:
    picture = draw_picture(tmp_path / "mouse.png")
    contents = []
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        out = tmp_path / name
        arguments = ["reconstruct", str(picture), "-o", str(out), "--seed", seed, *weights]
        assert run(monkeypatch, capsys, *arguments)[0] == 0
        contents.append({file: (out / file).read_bytes() for file in RESULTS if file != "summary.json"})
    assert contents[0] == contents[1]
    assert contents[0]["gaussians.ply"] != contents[2]["gaussians.ply"]


@pytest.mark.parametrize("unseen", ["body", "generator"])
def test_made_views_carry_the_cameras_of_the_rig_around_the_input(unseen) -> None:
    picture = draw_picture_in_memory()
    result = reconstruct(
        picture,
        config=ReconstructConfig(unseen=unseen, steps=1, refine_steps=2, elevation_deg=50.0, fov_deg=25.0),
        models=random_models(),
    )
    azimuths, elevations = azimuth_elevation_deg(result.context.cameras)
    assert result.num_inputs == 1
    assert elevations[0] == pytest.approx(50.0, abs=1e-3)
    assert float(result.context.cameras.fov_deg[0, 0]) == pytest.approx(25.0, abs=0.5)
    torch.testing.assert_close(elevations[1:], torch.full((6,), 20.0), atol=1e-3, rtol=0)
    offsets = (azimuths[1:] - azimuths[0] + 180) % 360 - 180
    torch.testing.assert_close(offsets.abs(), torch.tensor([0.0, 45, 90, 180, 90, 45]), atol=1e-3, rtol=0)


def draw_picture_in_memory():
    from mouselift.data.picture import Picture

    mask = torch.zeros(1, 100, 100)
    mask[:, 30:60, 20:80] = 1
    return Picture(image=torch.full((3, 100, 100), 0.4), mask=mask, source=Path("memory.png"))


def test_one_view_of_a_sample_needs_what_several_do_not(tmp_path) -> None:
    sample = read_sample(write_samples(tmp_path, 2) / sample_folder_name(0))
    config, models = ReconstructConfig(steps=1, refine_steps=2), random_models()
    one = reconstruct_sample(sample, [8], config=config, models=models)
    assert (one.num_inputs, len(one.context.cameras)) == (1, 7)
    torch.testing.assert_close(one.context.cameras.w2c[0], sample.views.cameras.w2c[8])
    several = reconstruct_sample(sample, [0, 3, 6], config=config, models=models)
    assert (several.num_inputs, len(several.context.cameras)) == (3, 3)
    assert one.keypoints_scene is not None
    assert several.keypoints_scene is None
    assert "fit body" in one.timings_s
    assert "fit body" not in several.timings_s


def test_one_view_in_which_the_animal_is_small_is_cut_to_it(tmp_path) -> None:
    """Cameras of a rig see the whole cage; the networks know animals that fill the picture."""
    camera = orbit([10.0], 40.0, fov_deg=45, size_px=256)
    masks = torch.zeros(1, 1, 256, 256)
    masks[..., 110:140, 140:190] = 1
    views = Views(images=torch.full((1, 3, 256, 256), 0.3), masks=masks, cameras=camera)
    sample = Sample(views=views, sample_id="a", frame_index=0, scene_from_world=Similarity.identity())
    result = reconstruct_sample(sample, [0], config=ReconstructConfig(refine_steps=0), models=random_models())
    given = result.context[0]
    assert given.cameras.width == 128
    columns = (given.masks[0] > 0.5).any(0).nonzero()
    assert float(columns.max() - columns.min()) / 128 == pytest.approx(0.71, abs=0.03)
    # The middle of the animal is where the uncut camera sees it.
    ray = camera.unproject(torch.tensor([[[165.0, 125.0]]]), torch.ones(1, 1))[0, 0]
    torch.testing.assert_close(given.cameras.project(ray[None])[0], torch.tensor([64.0, 64.0]), atol=1.5, rtol=0)


def test_sample_on_the_command_line(tmp_path, monkeypatch, capsys, weights) -> None:
    sample = write_samples(tmp_path / "data", 1) / sample_folder_name(0)
    arguments = ["reconstruct", "--sample", str(sample), "--input-views", "0", "-o", str(tmp_path / "out"), *weights]
    assert run(monkeypatch, capsys, *arguments)[0] == 0
    assert (tmp_path / "out" / "gaussians.ply").is_file()


def truncated_png(path: Path) -> None:
    draw_picture(path)
    path.write_bytes(path.read_bytes()[:200])


def empty_alpha(path: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 4), np.uint8), "RGBA").save(path)


def two_animals(path: Path) -> None:
    rgba = np.zeros((100, 200, 4), np.uint8)
    rgba[30:70, 10:70, 3] = rgba[30:70, 120:180, 3] = 255
    Image.fromarray(rgba, "RGBA").save(path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("missing.png", lambda path: None),
        ("folder.png", lambda path: path.mkdir()),
        ("text.png", lambda path: path.write_text("not a picture")),
        ("zero.png", lambda path: path.write_bytes(b"")),
        ("cut.png", truncated_png),
        ("tiny.png", lambda path: Image.new("RGB", (1, 1)).save(path)),
        ("wide.png", lambda path: Image.new("1", (20000, 40)).save(path)),
        ("empty.png", empty_alpha),
        ("two.png", two_animals),
    ],
)
def test_bad_pictures_give_one_line_and_leave_earlier_results_alone(
    tmp_path, monkeypatch, capsys, weights, name, make
) -> None:
    path, out = tmp_path / name, tmp_path / "out"
    make(path)
    out.mkdir()
    (out / "precious.txt").write_text("an earlier result")
    before = sorted(tmp_path.iterdir())
    status, message = run(monkeypatch, capsys, "reconstruct", str(path), "-o", str(out), "--overwrite", *weights)
    assert status == 2
    assert len(message.strip().splitlines()) == 1
    assert message.startswith("mouselift: error: ")
    assert "expected" in message
    assert (out / "precious.txt").read_text() == "an earlier result"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mouse.png", "-o", "full"], "--overwrite replaces"),
        (["mouse.png", "-o", "mouse.png"], "found a file"),
        (["mouse.png", "-o", "mouse.png/below"], "found a file"),
        (["-o", "new"], "found none of them"),
        (["mouse.png", "--sample", "full", "-o", "new"], "found a picture and --sample"),
        (["--sample", "full", "-o", "new"], "expected a sample folder"),
        (["mouse.png", "-o", "new", "--steps", "0"], "1 to 1000 steps"),
        (["mouse.png", "-o", "new", "--elevation-deg", "100"], "-90 to 90 degrees"),
        (["mouse.png", "-o", "new", "--device", "tpu"], "auto, cpu or cuda"),
        (["mouse.png", "-o", "new", "--gslrm", "mouse.png"], "expected weights"),
        (["mouse.png", "-o", "new", "--generator", "nowhere.safetensors"], "expected a file of weights"),
        (["mouse.png", "-o", "new", "--mask", "nowhere.png"], "nowhere.png"),
        (["plain.png", "-o", "new", "--box", "1,2,3"], "expected a box"),
    ],
)
def test_bad_arguments_give_one_line(tmp_path, monkeypatch, capsys, weights, arguments, says) -> None:
    monkeypatch.chdir(tmp_path)
    draw_picture(tmp_path / "mouse.png")
    Image.new("RGB", (64, 64)).save("plain.png")
    Path("full").mkdir()
    Path("full/precious.txt").write_text("an earlier result")
    named = [] if {"--gslrm", "--generator"} & set(arguments) else weights
    status, message = run(monkeypatch, capsys, "reconstruct", *arguments, *named)
    assert status == 2
    assert says in message
    assert len(message.strip().splitlines()) == 1
    assert not Path("new").exists()
    assert Path("full/precious.txt").is_file()


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    from mouselift.export import result as result_module

    result = reconstruct(
        draw_picture_in_memory(), config=ReconstructConfig(steps=1, refine_steps=2), models=random_models()
    )

    def fail(*_: object, **__: object) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr(result_module, "write_film", fail)
    with pytest.raises(InputError, match="disk is full"):
        result_module.write_result(result, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_input_views_that_do_not_exist_or_show_nothing_are_refused(tmp_path) -> None:
    sample = read_sample(write_samples(tmp_path, 1) / sample_folder_name(0))
    with pytest.raises(InputError, match="among 0 to 8"):
        reconstruct_sample(sample, [9], models=random_models())
    sample.views.masks[2] = 0
    with pytest.raises(InputError, match=r"found none in \[2\]"):
        reconstruct_sample(sample, [0, 2], models=random_models())
