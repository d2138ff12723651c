"""`mouselift surround`: views from all sides of a recording's samples, for the generator to learn from."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from blobs import generator_task
from commands import run_command
from splats import animal

from mouselift.data.dataset import MouseDataset
from mouselift.data.framing import frame_view, is_framed
from mouselift.data.layout import read_sample, write_dataset, write_sample
from mouselift.data.selection import split_rig_and_free
from mouselift.errors import InputError
from mouselift.geometry import Similarity, Views
from mouselift.geometry.rigs import MOUSE_FOV_DEG, orbit
from mouselift.metrics import psnr_fg
from mouselift.surround import SurroundConfig, surround
from mouselift.synth.scene import photograph

QUICK = SurroundConfig(size_px=32, steps=40, enough_db=15)
NAMES = ["sample_000000", "sample_000003", "sample_000005"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Three instants on six real cameras; the last one is for validation."""
    root = tmp_path_factory.mktemp("recorded") / "set"
    cameras = orbit([60.0 * i for i in range(6)], [15.0, 40.0] * 3, fov_deg=40, size_px=48, names=list("abcdef"))
    for k, name in enumerate(NAMES):
        views = photograph(animal(seed=k), cameras)
        write_sample(root / name, views, sample_id=name, frame_index=k, scene_from_world=Similarity.identity())
    write_dataset(root, {"train": NAMES[:2], "val": NAMES[2:]}, {})
    return root


@pytest.fixture(scope="module")
def surrounded(recorded: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "dense"
    done = surround(recorded, out, QUICK, progress=False)
    assert (done.num_train, done.num_val, done.left_out) == (2, 1, {})
    assert done.mean_db > 15
    return out


def test_new_views_show_the_animal_from_where_no_camera_stood(surrounded: Path) -> None:
    sample = read_sample(surrounded / NAMES[1])
    on_rig, free = split_rig_and_free(sample.views)
    assert [sample.views.cameras.names[i] for i in free] == list("abcdef")
    assert len(on_rig) == 8
    assert float(sample.views.cameras.fov_deg[on_rig].mean()) == pytest.approx(MOUSE_FOV_DEG, abs=0.1)
    truth = photograph(animal(seed=1), sample.views.cameras[on_rig])
    white = torch.ones(3)
    close = psnr_fg(sample.views[on_rig].over(white).images, truth.over(white).images, truth.masks)
    assert float(close.min()) > 15


def test_splits_and_names_stay_and_real_views_are_cut_to_the_animal(recorded: Path, surrounded: Path) -> None:
    assert [sample.sample_id for sample in (MouseDataset(surrounded, "val")[0],)] == NAMES[2:]
    before, after = (read_sample(root / NAMES[0]) for root in (recorded, surrounded))
    real, cut = after.views[8:], Views.cat([frame_view(before.views[[v]], size_px=32) for v in range(6)])
    assert all(is_framed(real[[v]]) for v in range(6))
    torch.testing.assert_close(real.images * real.masks, cut.images * cut.masks, atol=2 / 255, rtol=0)
    torch.testing.assert_close(real.cameras.K, cut.cameras.K)
    assert (surrounded / "contact_sheet.png").is_file()


def test_the_generator_learns_from_it(surrounded: Path) -> None:
    data = MouseDataset(surrounded, "train")
    loss, _ = generator_task().loss([data[0], data[1]], torch.Generator().manual_seed(0))
    assert float(loss.detach()) > 0


def test_a_run_that_was_cut_off_goes_on(recorded: Path, surrounded: Path, monkeypatch) -> None:
    monkeypatch.setattr("mouselift.surround.optimise_sample", lambda *_, **__: pytest.fail("made again"))
    (surrounded / "dataset.json").unlink()
    assert surround(recorded, surrounded, QUICK, progress=False).num_train == 2
    assert (surrounded / "dataset.json").is_file()


def test_samples_made_otherwise_are_not_mixed(recorded: Path, surrounded: Path) -> None:
    with pytest.raises(InputError, match=r"config_sha256 .*use another folder"):
        surround(recorded, surrounded, SurroundConfig(size_px=32, steps=41, enough_db=15), progress=False)


def test_bad_fits_are_left_out_and_told(recorded: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "out"
    arguments = ["surround", str(recorded), "-o", str(out), "--size-px", "32", "--steps", "1", "--enough-db", "60"]
    status, _, errors = run_command(monkeypatch, capsys, *arguments)
    assert status == 2
    assert "found none to train on; sample sample_000000: expected a fit that shows its own" in errors
    assert len((out / "left_out.tsv").read_text().splitlines()) == 3
    assert not (out / "dataset.json").exists()


def test_synthetic_samples_need_it_not(surrounded: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected views of a recording, found views from all sides"):
        surround(surrounded, tmp_path / "again", QUICK, progress=False)


def test_a_dataset_is_not_written_over(recorded: Path) -> None:
    with pytest.raises(InputError, match="another folder than the dataset itself"):
        surround(recorded, recorded, QUICK, progress=False)


def test_a_dataset_without_validation_samples_will_do(recorded: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(recorded, alone)
    write_dataset(alone, {"train": NAMES[:1], "val": []}, {})
    done = surround(alone, tmp_path / "out", QUICK, progress=False)
    assert (done.num_train, done.num_val) == (1, 0)


def test_a_view_that_shows_a_sliver_does_not_cost_the_instant(recorded: Path, tmp_path: Path) -> None:
    sample = read_sample(recorded / NAMES[0])
    masks = sample.views.masks.clone()
    masks[2] = 0
    masks[2, :, 20:23, 20:30] = 1
    root = tmp_path / "set"
    views = Views(images=sample.views.images, masks=masks, cameras=sample.views.cameras)
    write_sample(root / NAMES[0], views, sample_id="a", frame_index=0, scene_from_world=Similarity.identity())
    write_dataset(root, {"train": NAMES[:1], "val": []}, {})
    surround(root, tmp_path / "out", QUICK, progress=False)
    assert read_sample(tmp_path / "out" / NAMES[0]).views.cameras.names[8:] == tuple("abdef")


def test_what_failed_is_tried_again(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none to train on"):
        surround(recorded, tmp_path / "out", replace(QUICK, enough_db=60.0), progress=False)
    assert surround(recorded, tmp_path / "out", QUICK, progress=False).num_train == 2


@pytest.mark.parametrize("changes", [{"steps": -1}, {"enough_db": float("nan")}, {"num_views": 2}, {"size_px": 4}])
def test_settings_out_of_range_are_refused_before_any_work(changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        replace(QUICK, **changes)
