from pathlib import Path

import pytest
import torch
from samples import random_gaussians, random_similarity, seeded

from mouselift.errors import InputError
from mouselift.export.files import write_gaussians
from mouselift.export.sequence import read_sequence
from mouselift.geometry import Gaussians


def scene(count: int) -> Gaussians:
    return random_gaussians(seeded(0), count=count).to(torch.float32)


def test_a_file_is_a_still_called_after_it(tmp_path: Path) -> None:
    write_gaussians(scene(3), tmp_path / "mouse.one.ply")
    still = read_sequence(tmp_path / "mouse.one.ply")
    assert (still.name, [len(frame) for frame in still.frames]) == ("mouse.one", [3])


def test_a_result_folder_is_a_still_called_after_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_gaussians(scene(3), tmp_path / "run" / "gaussians.ply")
    assert read_sequence(tmp_path / "run").name == "run"
    assert read_sequence(tmp_path / "run" / "gaussians.ply").name == "run"


def test_files_of_a_folder_are_frames_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write_gaussians(scene(number), tmp_path / f"frame_{number}.splat")
    (tmp_path / "notes.txt").write_text("not a frame")
    frames = read_sequence(tmp_path)
    assert list(frames.frame_names) == ["frame_1", "frame_2", "frame_10"]
    assert [len(frame) for frame in frames.frames] == [1, 2, 10]
    assert list(read_sequence(tmp_path, every=2).frame_names) == ["frame_1", "frame_10"]


def test_result_folders_of_a_folder_are_frames(tmp_path: Path) -> None:
    for number in (11, 9):
        (tmp_path / f"t{number}").mkdir()
        write_gaussians(scene(2), tmp_path / f"t{number}" / "gaussians.ply")
    assert list(read_sequence(tmp_path).frame_names) == ["t9", "t11"]


def test_models_in_millimetres_come_into_the_scene(tmp_path: Path) -> None:
    gaussians, scene_from_world = scene(5), random_similarity(seeded(1))
    world = gaussians.to(torch.float64).transformed(scene_from_world.inverse()).to(torch.float32)
    write_gaussians(world, tmp_path / "a.ply", units="mm")
    moved = read_sequence(tmp_path / "a.ply", scene_from_world=scene_from_world).frames[0]
    torch.testing.assert_close(moved.means, gaussians.means, atol=1e-4, rtol=1e-4)
    left = read_sequence(tmp_path / "a.ply").frames[0]
    torch.testing.assert_close(left.means, world.means)


def test_up_is_turned_to_z(tmp_path: Path) -> None:
    write_gaussians(scene(5), tmp_path / "a.ply")
    original, turned = (read_sequence(tmp_path / "a.ply", up=up).frames[0].means for up in ("z", "-y"))
    torch.testing.assert_close(turned[:, 2], -original[:, 1])


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected files of Gaussians"):
        read_sequence(tmp_path)
    with pytest.raises(InputError, match="n >= 1, found 0"):
        read_sequence(tmp_path, every=0)
