"""Masks of recordings, with the real network: a simulated one whose masks are known, and a real one."""

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest
from cages import overlap

from mouselift.data.recording import open_recording, read_instants
from mouselift.data.segmentation import learn_segmenter

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs the extra `foreground`"),
]


def test_masks_of_a_simulated_recording_are_true(test_data: Path) -> None:
    recording = open_recording(test_data / "markerless_mouse_1_sim")
    assert recording.calibration is not None
    *samples, instant = read_instants(recording, [0, 12, 24, 30])
    chosen = [0, 3]
    rig = recording.calibration.each([frame.shape[1::-1] for frame in instant.frames])
    segmenter = learn_segmenter(
        [[sample.frames[v] for v in chosen] for sample in samples], cameras=[rig[v] for v in chosen]
    )
    assert instant.masks is not None
    for view, v in zip(segmenter([instant.frames[v] for v in chosen]), chosen, strict=True):
        assert view.problem == ""
        assert overlap(view.mask > 127, instant.masks[v] > 127) > 0.95


def test_a_mouse_that_hardly_moves_is_separated_from_its_cage_and_from_its_mirror_image(test_data: Path) -> None:
    folder = test_data / "sleap_anipose_mouse4cam"
    recording = open_recording(folder, calibration=folder / "recalibrated.anipose.toml")
    assert recording.calibration is not None
    tracks = []
    for name in recording.names:
        with h5py.File(next((folder / name).glob("*.analysis.h5"))) as file:
            tracks.append(np.transpose(np.asarray(file["tracks"])[0], (2, 1, 0)) + 0.5)
    points = np.stack(tracks, axis=1)  # (T, V, N, 2)
    *samples, instant = read_instants(recording, [0, 10, 20, 25])
    segmenter = learn_segmenter(
        [sample.frames for sample in samples],
        cameras=recording.calibration.each([frame.shape[1::-1] for frame in instant.frames]),
        points=[
            list(points[sample.index]) for sample in samples
        ],  # they only spare the search for the mouse in the cage
    )
    for name, view, tracked in zip(recording.names, segmenter(instant.frames), points[instant.index], strict=True):
        assert view.problem == "", name
        assert view.agreement > 0.85, name
        columns, rows = tracked[np.isfinite(tracked).all(1)].astype(int).T
        assert (view.mask[rows, columns] > 0).mean() > 0.6, name  # labels lie on the outline, some of them beside it
