"""`mouselift batch`: many pictures, of which some cannot be used, and going on after being cut off."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_command
from models import random_models
from PIL import Image

from mouselift.batch import find_pictures, reconstruct_all
from mouselift.errors import InputError
from mouselift.models.checkpoint_io import save_weights
from mouselift.reconstruct import ReconstructConfig

QUICK = ReconstructConfig(refine_steps=1, elevation_deg=20.0)


def draw(path: Path, opaque: bool = False) -> Path:
    rows, columns = np.mgrid[:80, :100]
    inside = ((columns - 50) / 30) ** 2 + ((rows - 40) / 16) ** 2 <= 1
    rgba = np.full((80, 100, 4), 90, np.uint8)
    rgba[..., 3] = 255 if opaque else inside * 255
    Image.fromarray(rgba, "RGBA").save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two good ones, one that is no picture, and something else."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw(folder / "a mouse.png")
    draw(folder / "b.png")
    (folder / "c.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("x")
    return folder


def test_one_bad_picture_does_not_stop_the_others(tmp_path: Path, pictures: Path, monkeypatch, capsys) -> None:
    out, models = tmp_path / "out", random_models()
    arguments = ["batch", str(pictures), "-o", str(out), "--refine", "1", "--elevation-deg", "20"]
    for name in ("gslrm", "generator", "pose"):
        save_weights(getattr(models, name), tmp_path / f"{name}.safetensors", {})
        arguments += [f"--{name}", str(tmp_path / f"{name}.safetensors")]
    status, printed, errors = run_command(monkeypatch, capsys, *arguments)
    assert status == 2
    assert "2 of 3 pictures" in printed
    assert errors.splitlines()[-1].startswith("mouselift: error: 1 of 3 pictures could not be used:")
    names = {"a mouse", "b", "strips", "batch.json", "left_out.tsv", "index.html"}
    assert {path.name for path in out.iterdir()} == names
    page = (out / "index.html").read_text()
    assert 'href="a%20mouse/viewer.html"' in page
    assert 'src="strips/b.png"' in page
    assert "c: " in page
    assert (out / "left_out.tsv").read_text().startswith("c\t")
    assert json.loads((out / "b" / "summary.json").read_text())["input"] == str(pictures / "b.png")
    assert (out / "a mouse" / "viewer.html").is_file()
    assert Image.open(out / "strips" / "a mouse.png").size == (800, 160)


def test_a_second_run_makes_what_is_missing_and_tries_again_what_failed(
    tmp_path: Path, pictures: Path, monkeypatch
) -> None:
    out, models = tmp_path / "out", random_models()
    reconstruct_all(find_pictures([pictures / "b.png"]), out, config=QUICK, models=models, progress=False)
    draw(pictures / "c.png")
    made = []
    from mouselift import batch

    reconstruct = batch.reconstruct
    monkeypatch.setattr(
        batch, "reconstruct", lambda path, **options: made.append(path.name) or reconstruct(path, **options)
    )
    done = reconstruct_all(find_pictures([pictures]), out, config=QUICK, models=models, progress=False)
    assert made == ["a mouse.png", "c.png"]
    assert done.made == ("a mouse", "b", "c")
    assert not done.left_out


def test_other_settings_want_another_folder(tmp_path: Path, pictures: Path) -> None:
    out, models, found = tmp_path / "out", random_models(), find_pictures([pictures / "b.png"])
    reconstruct_all(found, out, config=QUICK, models=models, progress=False)
    other = ReconstructConfig(refine_steps=2, elevation_deg=20.0)
    with pytest.raises(InputError, match=r"batch\.json: expected results of the same refine_steps, found others"):
        reconstruct_all(found, out, config=other, models=models, progress=False)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(InputError, match="found other files in"):
        reconstruct_all(find_pictures([pictures]), pictures, config=QUICK, models=random_models())


def test_masks_are_found_by_name_and_strays_are_refused(tmp_path: Path, pictures: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    draw(pictures / "d.png", opaque=True)
    inside = np.zeros((80, 100), np.uint8)
    inside[30:50, 20:80] = 255
    Image.fromarray(inside).save(masks / "d.png")
    found = find_pictures([pictures / "d.png"])
    done = reconstruct_all(found, tmp_path / "out", masks=masks, config=QUICK, models=random_models(), progress=False)
    assert done.made == ("d",)
    Image.fromarray(inside).save(masks / "e.png")
    with pytest.raises(InputError, match=r"expected masks named as the pictures, found e\.png"):
        reconstruct_all(found, tmp_path / "other", masks=masks, config=QUICK, progress=False)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "found none"),
        (["nothing.png"], "found no such file"),
        (["b.png", "b.jpg"], "different names"),
        (["strips.png"], "other names"),
        (["empty"], "expected pictures .*found none"),
    ],
)
def test_sources_that_cannot_be_meant(pictures: Path, names: list[str], message: str) -> None:
    (pictures / "empty").mkdir()
    draw(pictures / "strips.png")
    (pictures / "b.jpg").write_bytes((pictures / "b.png").read_bytes())
    with pytest.raises(InputError, match=message):
        find_pictures([pictures / name for name in names])


def test_other_weights_and_other_pictures_of_the_same_name_are_not_mixed(tmp_path: Path, pictures: Path) -> None:
    out, models, found = tmp_path / "out", random_models(), find_pictures([pictures / "b.png"])
    reconstruct_all(found, out, config=QUICK, models=models, progress=False)
    other = random_models()
    with torch.no_grad():
        next(other.pose.parameters()).add_(1)
    with pytest.raises(InputError, match="expected results of the same weights, found others"):
        reconstruct_all(found, out, config=QUICK, models=other, progress=False)
    Image.fromarray(np.full((80, 100, 3), 9, np.uint8)).save(pictures / "b.png")
    with pytest.raises(InputError, match="expected the result of this picture and mask, found that of others"):
        reconstruct_all(found, out, config=QUICK, models=models, progress=False)


def test_a_later_run_on_other_pictures_keeps_earlier_results_on_the_page(tmp_path: Path, pictures: Path) -> None:
    out, models = tmp_path / "out", random_models()
    reconstruct_all(find_pictures([pictures]), out, config=QUICK, models=models, progress=False)
    draw(tmp_path / "later.png")
    done = reconstruct_all(find_pictures([tmp_path / "later.png"]), out, config=QUICK, models=models, progress=False)
    assert (done.made, done.left_out) == (("later",), {})
    page = (out / "index.html").read_text()
    assert all(text in page for text in ("strips/b.png", "strips/later.png", "c: "))


def test_settings_of_a_run_that_made_nothing_bind_nobody(tmp_path: Path, pictures: Path) -> None:
    out, models = tmp_path / "out", random_models()
    found = find_pictures([pictures / "c.png"])
    assert reconstruct_all(found, out, config=QUICK, models=models, progress=False).left_out
    draw(pictures / "c.png")
    other = ReconstructConfig(refine_steps=2, elevation_deg=20.0)
    assert reconstruct_all(found, out, config=other, models=models, progress=False).made == ("c",)


def test_what_a_killed_run_left_goes(tmp_path: Path, pictures: Path) -> None:
    out = tmp_path / "out"
    draw(pictures / "cam.1.png")
    found = find_pictures([pictures / "cam.1.png"])
    reconstruct_all(found, out, config=QUICK, models=random_models(), progress=False)
    (out / ".cam.1-abcd1234").mkdir()
    (out / "strips" / ".cam.1-abcd1234.png").write_bytes(b"half")
    reconstruct_all(found, out, config=QUICK, models=random_models(), progress=False)
    assert not [path for path in out.rglob(".*")]
