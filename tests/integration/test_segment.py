"""A recording without masks gets some; the network is replaced by one that finds the ellipsoid's colours."""

import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from rig_recordings import centre_at, picture, write_rig_recording

import mouselift.segment as module
from mouselift.data.recording import open_recording, read_masks
from mouselift.data.segmentation import SegmentedView
from mouselift.data.tracks import Tracks
from mouselift.errors import InputError
from mouselift.segment import segment


class Truthful:
    """Gives the true masks, and counts how often it is asked."""

    asked = 0

    points: ClassVar[list] = []

    def __call__(self, frames: tuple[np.ndarray, ...], points=None) -> tuple[SegmentedView, ...]:
        instant = self.instants[Truthful.asked]
        Truthful.points.append(points)
        Truthful.asked += 1
        masks = [picture(view, centre_at(instant))[1] for view in range(len(frames))]
        return tuple(SegmentedView(mask=mask, area_ratio=1.0, agreement=0.9, problem="") for mask in masks)

    def __init__(self, instants: list[int]) -> None:
        self.instants = instants


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    root = write_rig_recording(tmp_path / "rig", 6)
    shutil.rmtree(root / "masks")
    return root


def test_masks_join_the_recording_and_a_second_run_goes_on(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "learn_segmenter", lambda *_, **__: Truthful([0, 2, 4]))
    Truthful.asked = 0
    masked = segment(open_recording(bare), tmp_path / "out", every=2, progress=False)
    assert Truthful.asked == 3
    assert masked.has_masks
    assert masked.names == open_recording(bare).names
    found = {index: masks for index, masks in read_masks(masked, range(6))}
    for index, masks in found.items():
        for view, name in enumerate(masked.names):
            shown = masks[masked.names.index(name)]
            assert bool(shown.any()) == (index % 2 == 0)
            if index % 2 == 0:
                assert np.array_equal(shown, picture(view, centre_at(index))[1])
    lines = (tmp_path / "out" / "segment.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 4
    assert (tmp_path / "out" / "overview.png").is_file()
    segment(open_recording(bare), tmp_path / "out", every=2, progress=False)
    assert Truthful.asked == 3  # nothing was missing


def test_tracks_reach_the_segmenter(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, learned = open_recording(bare), {}
    table = np.arange(6 * 3 * 2, dtype=np.float64).reshape(6, 3, 2)
    tracks = Tracks(points=(table, None, *[table + 1] * (len(recording.views) - 2)), sources=())
    monkeypatch.setattr(module, "learn_segmenter", lambda *_, **named: (learned.update(named), Truthful([0, 3]))[1])
    Truthful.asked, Truthful.points = 0, []
    segment(recording, tmp_path / "out", every=3, tracks=tracks, progress=False)
    for row, instant in zip(Truthful.points, (0, 3), strict=True):
        assert np.array_equal(row[0], table[instant])
        assert row[1].shape == (0, 2)
    assert np.array_equal(learned["points"][1][2], table[3] + 1)


def test_what_segment_refuses(bare: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every >= 1"):
        segment(open_recording(bare), tmp_path / "out", every=0)
    with_masks = write_rig_recording(tmp_path / "masked", 4)
    with pytest.raises(InputError, match="without masks"):
        segment(open_recording(with_masks), tmp_path / "out")
    assert not (tmp_path / "out").exists()
