"""A tiny sound recording, ways to break it or to make it odd, and `mouselift prepare` as the command line runs it."""

import os
import pickle
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from rig_recordings import FPS, HEIGHT, NAMES, WIDTH, calibration_of, centre_at, picture, rig
from videos import write_video

from mouselift.cli import main
from mouselift.data.calibration import WRITERS
from mouselift.data.layout import DATASET_FILE, SPLIT_FILES

NUM_INSTANTS, LAG, STRIDE = 6, 2, 4  # the animal runs 7 mm from one instant to the next
SETTINGS = ("preset=facelift", "size_px=96", "val_share=0.2", "gap_s=0")

Damage = Callable[[Path], Any]
Tree = dict[str, bytes]


@cache
def footage(name: str) -> np.ndarray:
    """(LAG + NUM_INSTANTS, H, W, 4): what a camera saw, its mask as the last channel; the first ones are too early."""
    times = range(-LAG, NUM_INSTANTS)
    shown = [picture(NAMES.index(name), centre_at(STRIDE * t)) for t in times]
    return np.stack([np.dstack(pair) for pair in shown])


def write_view(root: Path, name: str, rgba: np.ndarray | None = None, masks: bool = True, **options: Any) -> None:
    """A camera's videos; the options are those of its pictures."""
    rgba = footage(name)[LAG:] if rgba is None else rgba
    write_video(root / f"{name}.mp4", [np.ascontiguousarray(p[..., :3]) for p in rgba], fps=FPS, **options)
    if masks:
        write_masks(root, name, rgba[..., 3], pixel_format=options.get("pixel_format", "yuv420p"))


def write_masks(root: Path, name: str, masks: np.ndarray, **options: Any) -> None:
    write_video(root / "masks" / f"{name}.mp4", [np.dstack([mask] * 3) for mask in masks], fps=FPS, **options)


def write_sound_recording(root: Path) -> Path:
    for name in NAMES:
        write_view(root, name)
    WRITERS["anipose"](root / "calibration.toml", calibration_of(rig()))
    return root


def run_prepare(patch: pytest.MonkeyPatch, recording: Path, out: Path, *arguments: str) -> int:
    """`mouselift prepare`; its exit status."""
    patch.setattr("sys.argv", ["mouselift", "prepare", str(recording), "-o", str(out), *SETTINGS, *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def tree(folder: Path) -> Tree:
    """Every file of a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def looks_whole(out: Path) -> bool:
    return any((out / name).exists() for name in (DATASET_FILE, *SPLIT_FILES.values()))


def the_error(text: str) -> str:
    """The one line on stderr."""
    assert text.startswith("mouselift: error: "), text
    assert text.count("\n") == 1, text
    return text


# ---- ways to break it


def cut(name: str, share: float) -> Damage:
    def damage(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(share * len(content))])

    return damage


def overwritten(name: str, share: float) -> Damage:
    """Zeros for 60 bytes."""

    def damage(root: Path) -> None:
        content = bytearray((root / name).read_bytes())
        at = int(share * len(content))
        content[at : at + 60] = bytes(60)
        (root / name).write_bytes(content)

    return damage


def in_calibration(old: str, new: str) -> Damage:
    def damage(root: Path) -> None:
        text = (root / "calibration.toml").read_text()
        assert old in text
        (root / "calibration.toml").write_text(text.replace(old, new, 1))

    return damage


def in_recording_file(sync: str | None = None, **values: Any) -> Damage:
    def damage(root: Path) -> None:
        cameras = {name: {"video": f"{name}.mp4", "mask": f"masks/{name}.mp4"} for name in NAMES}
        entry = {"calibration": "calibration.toml", "cameras": cameras, **values}
        if sync is not None:
            (root / "sync.csv").write_text(sync)
            entry["sync"] = "sync.csv"
        (root / "recording.yaml").write_text(yaml.safe_dump(entry))

    return damage


def lagging(root: Path) -> None:
    write_view(root, "west", footage("west")[:-LAG])


def swapped(root: Path) -> None:
    write_view(root, "east", footage("north")[LAG:])
    write_view(root, "north", footage("east")[LAG:])


def picture_masks(root: Path) -> None:
    shutil.rmtree(root / "masks")
    for name in NAMES:
        (root / "masks" / name).mkdir(parents=True)
        for t, rgba in enumerate(footage(name)[LAG:]):
            Image.fromarray(np.ascontiguousarray(rgba[..., 3])).save(root / "masks" / name / f"{t:04d}.png")


def cut_picture(root: Path) -> None:
    picture_masks(root)
    cut("masks/west/0003.png", 0.5)(root)


def missing_picture(root: Path) -> None:
    picture_masks(root)
    (root / "masks" / "west" / "0003.png").unlink()


def picture_bomb(root: Path) -> None:
    """A PNG of 150 bytes that claims 60,000 x 60,000 px."""
    picture_masks(root)
    file = root / "masks" / "west" / "0000.png"
    content = bytearray(file.read_bytes())
    content[16:24] = 2 * (60_000).to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    file.write_bytes(content)


def pickle_bomb(root: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch '{root / 'exploded'}'",)  # which would change the recording

    (root / "calibration.toml").unlink()
    (root / "new_cam.pkl").write_bytes(pickle.dumps([Bomb()]))


def emptied(root: Path, name: str, which: slice) -> None:
    masks = footage(name)[LAG:, ..., 3].copy()
    masks[which] = 0
    write_masks(root, name, masks)


# ---- ways to make it odd


def with_sides(root: Path, sides: dict[str, tuple[int, int]]) -> None:
    """Pictures of other sizes: the same scene, sampled anew, and a calibration that says so."""
    calibration, cameras = calibration_of(rig()), []
    for camera in calibration.cameras:
        width, height = sides.get(camera.name, (WIDTH, HEIGHT))
        shown = [cv2.resize(p, (width, height), interpolation=cv2.INTER_CUBIC) for p in footage(camera.name)[LAG:]]
        write_view(root, camera.name, np.stack(shown))
        K = camera.K.clone()
        K[0] *= width / WIDTH
        K[1] *= height / HEIGHT
        cameras.append(replace(camera, K=K, width=width, height=height))
    WRITERS["anipose"](root / "calibration.toml", replace(calibration, cameras=tuple(cameras)))


def odd_sizes(root: Path) -> None:
    """A column more and a row less than the rig has."""
    for name in NAMES:
        shown = np.pad(footage(name)[LAG:, :-1], ((0, 0), (0, 0), (0, 1), (0, 0)), mode="edge")
        assert shown.shape[1:3] == (127, 161)
        write_view(root, name, shown, pixel_format="yuv444p")
    text = (root / "calibration.toml").read_text()
    (root / "calibration.toml").write_text(text.replace("[160, 128]", "[161, 127]"))


def grey(root: Path) -> None:
    for name in NAMES:
        shown = [cv2.cvtColor(p[..., :3], cv2.COLOR_RGB2GRAY) for p in footage(name)[LAG:]]
        write_video(root / f"{name}.mp4", shown, fps=FPS, pixel_format="gray")


def ten_bits(root: Path) -> None:
    for name in NAMES:
        write_view(root, name, masks=False, pixel_format="yuv420p10le")
