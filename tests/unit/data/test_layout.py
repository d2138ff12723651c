"""The dataset on disk: round trips, FaceLift's own files, refusals, memory."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import (
    CAMERA_FILE,
    list_samples,
    read_sample,
    sample_folder_name,
    write_dataset,
    write_sample,
)
from mouselift.errors import InputError
from mouselift.geometry import Similarity, Views
from mouselift.geometry.rigs import orbit

WORLD = Similarity(scale=torch.tensor(0.01), rotation=torch.eye(3), translation=torch.tensor([0.1, 0.2, 0.3]))


def some_views(seed: int = 0) -> Views:
    """Random 8-bit pixels, so that a PNG keeps them exactly."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (3, 4, 12, 12), generator=generator) / 255
    cameras = orbit([0.0, 100.0, 200.0], [10.0, 20.0, 30.0], size_px=12, names=["a", "b", "c"])
    return Views(images=pixels[:, :3], masks=pixels[:, 3:], cameras=cameras)


def write(folder: Path, seed: int = 0, **extra) -> Path:
    write_sample(folder, some_views(seed), sample_id="x", frame_index=42, scene_from_world=WORLD, extra=extra or None)
    return folder


def test_round_trip(tmp_path: Path) -> None:
    sample = read_sample(write(tmp_path / "sample_000000", coat="black"))
    views = some_views()
    assert torch.equal(sample.views.images, views.images)
    assert torch.equal(sample.views.masks, views.masks)
    torch.testing.assert_close(sample.views.cameras.w2c, views.cameras.w2c)
    torch.testing.assert_close(sample.views.cameras.K, views.cameras.K)
    torch.testing.assert_close(sample.scene_from_world.matrix(), WORLD.matrix())
    assert sample.views.cameras.names == ("a", "b", "c")
    assert (sample.sample_id, sample.frame_index, sample.extra["coat"]) == ("x", 42, "black")


def test_chosen_views_come_in_the_order_asked_for(tmp_path: Path) -> None:
    sample = read_sample(write(tmp_path / "sample"), [2, 0])
    assert sample.views.cameras.names == ("c", "a")
    assert torch.equal(sample.views.images, some_views().images[[2, 0]])


def test_the_files_are_facelifts(tmp_path: Path) -> None:
    record = json.loads((write(tmp_path / "sample") / CAMERA_FILE).read_text())
    frame = record["frames"][1]
    assert {"w", "h", "fx", "fy", "cx", "cy", "w2c", "file_path"} <= set(frame)
    assert frame["file_path"] == "images/cam_001.png"
    with Image.open(tmp_path / "sample" / frame["file_path"]) as picture:
        assert (picture.mode, picture.size) == ("RGBA", (12, 12))


def test_a_sample_of_facelift_itself_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "sample")
    record = json.loads((folder / CAMERA_FILE).read_text())
    for frame in record["frames"]:
        del frame["view_name"]
        frame["blender_camera_name"] = "Camera"
    theirs = {"id": "0", "frames": record["frames"]}
    (folder / CAMERA_FILE).write_text(json.dumps(theirs))
    sample = read_sample(folder)
    torch.testing.assert_close(sample.scene_from_world.matrix(), torch.eye(4))
    assert len(sample.views.cameras) == 3


def test_writing_again_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "sample", seed=0)
    write(tmp_path / "sample", seed=1)
    assert torch.equal(read_sample(tmp_path / "sample").views.images, some_views(1).images)
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def remove_picture(folder: Path) -> None:
    (folder / "images" / "cam_001.png").unlink()


def resize_picture(folder: Path) -> None:
    Image.new("RGBA", (5, 5)).save(folder / "images" / "cam_001.png")


def damage_picture(folder: Path) -> None:
    (folder / "images" / "cam_001.png").write_bytes(b"no picture")


def edit(change):
    def apply(folder: Path) -> None:
        record = json.loads((folder / CAMERA_FILE).read_text())
        change(record)
        (folder / CAMERA_FILE).write_text(json.dumps(record))

    return apply


def mirror(record) -> None:
    record["frames"][0]["w2c"][0] = [-value for value in record["frames"][0]["w2c"][0]]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove_picture, "expected the picture"),
        (resize_picture, "expected 12x12 px"),
        (damage_picture, "expected a picture"),
        (lambda folder: (folder / CAMERA_FILE).unlink(), "expected a sample folder"),
        (lambda folder: (folder / CAMERA_FILE).write_text("{"), "expected JSON"),
        (lambda folder: (folder / CAMERA_FILE).write_text("[]"), "expected JSON with a list"),
        (edit(lambda record: record.pop("frames")), "frames"),
        (edit(lambda record: record["frames"][0].pop("fx")), "fx"),
        (edit(lambda record: record["frames"][0].update(fx=float("nan"))), "not finite"),
        (edit(lambda record: record["frames"][0].update(w=13)), "views of one size"),
        (edit(mirror), "mirrored"),
    ],
)
def test_damaged_samples_are_refused(tmp_path: Path, damage, says: str) -> None:
    folder = write(tmp_path / "sample")
    damage(folder)
    with pytest.raises(InputError, match=says) as error:
        read_sample(folder)
    assert str(folder) in str(error.value)


def test_views_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="views 0 to 2 exist"):
        read_sample(write(tmp_path / "sample"), [3])


def test_dataset_gives_what_was_written_the_second_time_too(tmp_path: Path) -> None:
    names = [sample_folder_name(i) for i in range(3)]
    for seed, name in enumerate(names):
        write(tmp_path / name, seed)
    write_dataset(tmp_path, {"train": names[:2], "val": names[2:]}, {"made_by": "test"})
    data = MouseDataset(tmp_path, "train")
    assert len(data) == 2
    assert len(MouseDataset(tmp_path, "train", limit=1)) == 1
    for _ in range(2):
        assert torch.equal(data[1].views.images, some_views(1).images)
        assert torch.equal(data[1].views.masks, some_views(1).masks)
    assert data[1].frame_index == 42


def test_cached_samples_keep_their_8_bit_pixels_only(tmp_path: Path) -> None:
    """A slice of the float pixels would keep all of them alive, four times the memory."""
    names = [sample_folder_name(0)]
    write(tmp_path / names[0])
    write_dataset(tmp_path, {"train": names}, {})
    data = MouseDataset(tmp_path, "train")
    data[0]
    pixels, _, sample_of = data._cache[tmp_path / names[0]]
    assert pixels.dtype == torch.uint8
    assert pixels.untyped_storage().nbytes() == 3 * 4 * 12 * 12
    assert "views" not in sample_of.keywords


@pytest.mark.parametrize("content", [None, ""])
def test_missing_or_empty_list_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "data_mouse_train.txt").write_text(content)
    with pytest.raises(InputError, match="expected"):
        list_samples(tmp_path, "train")
