"""What is broken is refused in one clear line, and leaves nothing that looks whole; what is merely odd works."""

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from broken_recordings import (
    LAG,
    NUM_INSTANTS,
    Damage,
    cut,
    cut_picture,
    emptied,
    footage,
    grey,
    in_calibration,
    in_recording_file,
    lagging,
    looks_whole,
    missing_picture,
    odd_sizes,
    overwritten,
    pickle_bomb,
    picture_bomb,
    picture_masks,
    run_prepare,
    swapped,
    ten_bits,
    the_error,
    tree,
    with_sides,
    write_masks,
    write_view,
)

from mouselift.cli import EXIT_BAD_INPUT
from mouselift.data.layout import DATASET_FILE, list_samples, read_sample


@dataclass(frozen=True)
class Broken:
    damage: Damage
    says: str
    """Pattern of the message."""
    arguments: tuple[str, ...] = ()
    earlier: bool = field(default=False, kw_only=True)
    """Whether a dataset lies where the new one shall be."""


BROKEN = {
    # videos
    "zero bytes": Broken(
        lambda r: (r / "east.mp4").write_bytes(b""),
        r"east\.mp4: expected a video, found an empty file \(0 bytes\)",
        earlier=True,
    ),
    "cut off": Broken(cut("east.mp4", 0.6), r"east\.mp4: expected a video.* \(cut off while rec", earlier=True),
    "cut off, index first": Broken(
        lambda r: (write_view(r, "east", muxer={"movflags": "faststart"}), cut("east.mp4", 0.7)(r)),
        r"east\.mp4: (cut off or )?damaged at frame \d|east\.mp4: expected about 6 frames .* cut off",
    ),
    "text, not a video": Broken(
        lambda r: (r / "west.mp4").write_text("no video\n" * 100), r"west\.mp4: expected a video, found no readable one"
    ),
    "damaged pictures": Broken(overwritten("west.mp4", 0.3), r"west\.mp4: damaged at .*frame \d"),
    "damaged masks": Broken(overwritten("masks/west.mp4", 0.3), r"masks/west\.mp4: damaged at .*frame", earlier=True),
    "different lengths": Broken(
        lambda r: write_view(r, "north", footage("north")[LAG:-1]),
        r"expected equally long videos, found frames: east 6, north 5, west 6, south 6$",
        earlier=True,
    ),
    "frames missing": Broken(
        lambda r: write_view(r, "west", ticks=lambda k: 100 * (k + 3 * (k > 3))),
        r"camera west: expected no missing frames, found a gap of 3 after frame 3 that other cameras do not have",
    ),
    "another frame rate": Broken(
        lambda r: write_view(r, "west", ticks=lambda k: 200 * k),
        r"expected one frame rate, found frames a second: east 50, north 50, west 25, south 50",
    ),
    "turned by metadata": Broken(
        lambda r: write_view(r, "west", rotation=90), r"west\.mp4: .*found metadata that turn it by -?90 degrees"
    ),
    "camera missing": Broken(
        lambda r: (r / "west.mp4").unlink(),
        r"expected footage of the calibrated cameras east, north, west, south, found east, north, south$",
        earlier=True,
    ),
    "camera unknown": Broken(
        lambda r: [shutil.copy(r / part / "west.mp4", r / part / "top.mp4") for part in (".", "masks")],
        r"expected footage of the calibrated cameras .*, found east, north, south, top, west$",
    ),
    "a link to nothing": Broken(
        lambda r: ((r / "west.mp4").unlink(), (r / "west.mp4").symlink_to("gone.mp4")),
        r"expected footage of the calibrated cameras .*, found east, north, south$",
    ),
    "a video late": Broken(lagging, r"found 0\.\d\d in camera \w+: likely the video of camera west lags by 2 frames"),
    "views swapped": Broken(
        swapped, r"expected masks that overlap .* found .*: likely the pictures of cameras east and north are swapped"
    ),
    # masks
    "no masks": Broken(
        lambda r: shutil.rmtree(r / "masks"),
        r"expected masks of every camera, found none; make them: mouselift seg",
    ),
    "masks of one camera missing": Broken(
        lambda r: (r / "masks" / "west.mp4").unlink(), r"masks: expected masks of every camera, found none of west"
    ),
    "fewer masks than frames": Broken(
        lambda r: write_masks(r, "west", footage("west")[LAG:-1, ..., 3]),
        r"camera west: expected as many masks as frames, found 5 masks and 6 frames",
        earlier=True,
    ),
    "masks of another size": Broken(
        lambda r: write_masks(r, "west", footage("west")[LAG:, ::2, ::2, 3]),
        r"camera west: expected masks of 160x128 px, found 80x64",
    ),
    "empty masks in one view": Broken(
        lambda r: emptied(r, "west", slice(None)),
        r"expected masks that show one animal, found none in 6 of 6 instants; the first is 0: empty mask of west",
        earlier=True,
    ),
    "a third of the masks empty": Broken(
        lambda r: emptied(r, "north", slice(3, 5)),
        r"found none in 2 of 6 instants; the first is 3: empty mask of n",
    ),
    "mask picture cut off": Broken(
        cut_picture, r"camera west: .*masks/west/0003\.png: expected a picture, found: image file is truncated"
    ),
    "mask picture missing": Broken(missing_picture, r"masks/west: expected consecutive numbers, found none for 3"),
    "mask picture too large": Broken(
        picture_bomb, r"masks/west/0000\.png: expected a picture, found one that claims to be larger than any camera's"
    ),
    # calibration
    "no calibration": Broken(
        lambda r: (r / "calibration.toml").unlink(),
        r"recording: expected a calibration, found none; name one with --calibration",
    ),
    "two calibrations": Broken(
        lambda r: shutil.copy(r / "calibration.toml", r / "calibration_old.toml"),
        r"expected one calibration, found calibration\.toml, calibration_old\.toml; pick one",
    ),
    "calibration cut off": Broken(cut("calibration.toml", 0.3), r"calibration\.toml: expected TOML, found "),
    "NaN in the calibration": Broken(
        in_calibration("260.0", "nan"), r"calibration\.toml: camera 'east': .* not finite", earlier=True
    ),
    "text in the calibration": Broken(
        in_calibration("260.0", '"wide"'), r"calibration\.toml: camera 'east', matrix: expected .*numbers, found "
    ),
    "K transposed": Broken(
        in_calibration("[[260.0, 0.0, 81.5], [0.0, 255.0, 61.5], ", "[[260.0, 0.0, 0.0], [81.5, 255.0, 61.5], "),
        r"calibration\.toml: camera 'east': .*K",
    ),
    "calibrated at another size": Broken(
        in_calibration("[160, 128]", "[640, 512]"),
        r"camera east: expected 640x512 px as the calibration says, found 160x128",
    ),
    "a pickle that would run a program": Broken(
        pickle_bomb, r"new_cam\.pkl: expected a pickle of numpy arrays and plain containers, found posix\.system"
    ),
    # recording.yaml and the folder
    "unknown key": Broken(in_recording_file(framerate=50), r"recording\.yaml: unknown key framerate"),
    "a file that is not there": Broken(
        in_recording_file(calibration="rig.toml"),
        r"recording\.yaml: calibration: expected a file, found nothing at",
    ),
    "one camera": Broken(
        in_recording_file(cameras={"east": {"video": "east.mp4", "mask": "masks/east.mp4"}}),
        r"expected at least 2 cameras, found 1",
    ),
    "sync beyond the end": Broken(
        in_recording_file(sync="east,north,west,south\n0,0,0,0\n1,1,6,1\n"),
        r"camera west: expected frame 6 as the sync table says, found frames 0 to 5",
    ),
    "sync that is no table": Broken(
        in_recording_file(sync="east,north,west,south\n0,0,zero,0\n"),
        r"sync\.csv: expected .*lines of frame numbers",
    ),
    "an empty folder": Broken(lambda r: (shutil.rmtree(r), r.mkdir()), r"expected .* one video file for each camera"),
    "no folder": Broken(shutil.rmtree, r"expected a recording, found nothing at .*recording", earlier=True),
    # the command
    "instants that do not exist": Broken(
        lambda r: None, r"expected instants from 90 to 5, found none: there are 6", ("first=90",), earlier=True
    ),
    "a setting that is no number": Broken(lambda r: None, r"expected gap_s.* not negative", ("gap_s=.nan",)),
    "a setting that is no YAML": Broken(lambda r: None, r"expected key=value with a value in YAML", ("every=[",)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_recording_is_refused_in_one_line(
    name: str,
    sound: Path,
    sound_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    case = BROKEN[name]
    recording, out = shutil.copytree(sound, tmp_path / "recording"), tmp_path / "out"
    case.damage(recording)
    if case.earlier:
        shutil.copytree(sound_dataset, out)
    before, there = tree(recording), tree(out)
    capfd.readouterr()
    assert run_prepare(monkeypatch, recording, out, *case.arguments) == EXIT_BAD_INPUT
    assert re.search(case.says, the_error(capfd.readouterr().err).rstrip("\n"))
    assert tree(recording) == before
    assert tree(out) == there if case.earlier else not looks_whole(out)


# ---- odd, but sound


ODD: dict[str, Damage] = {
    "odd sizes": odd_sizes,
    "grey": grey,
    "ten bits": ten_bits,
    "cameras of several sizes": lambda r: with_sides(r, {"north": (240, 192), "west": (120, 96), "south": (320, 256)}),
    "masks as pictures": picture_masks,
    "an empty mask at the end": lambda r: emptied(r, "west", slice(-1, None)),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_merely_odd_gives_the_same_crops(
    name: str, sound: Path, sound_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Path(shutil.copytree(sound, tmp_path / "recording"))
    ODD[name](recording)
    before = tree(recording)
    assert run_prepare(monkeypatch, recording, tmp_path / "out") == 0
    assert tree(recording) == before
    record = json.loads((tmp_path / "out" / DATASET_FILE).read_text())
    assert record["dropped"] == ({"5": "empty mask of west"} if "empty" in name else {})
    made = [*list_samples(tmp_path / "out", "train"), *list_samples(tmp_path / "out", "val")]
    assert len(made) == NUM_INSTANTS - len(record["dropped"])
    for folder in made:
        views, expected = read_sample(folder).views, read_sample(sound_dataset / folder.name).views
        overlap = torch.minimum(views.masks, expected.masks).sum((1, 2, 3))
        assert (overlap / torch.maximum(views.masks, expected.masks).sum((1, 2, 3))).min() > 0.85  # 20 px wide
        inside = (views.masks * expected.masks > 0.99).expand_as(views.images)
        colours = views.images.mean(1, keepdim=True), expected.images.mean(1, keepdim=True)
        first, second = colours if name == "grey" else (views.images, expected.images)
        first, second = first.expand_as(inside)[inside], second.expand_as(inside)[inside]
        assert (first - second).abs().mean() < (0.1 if name == "grey" else 0.02)


def test_one_instant_is_enough(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_prepare(monkeypatch, sound, tmp_path / "out", "first=3", "last=3") == 0
    assert len(list_samples(tmp_path / "out", "train")) == 1
