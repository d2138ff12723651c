"""Tracks are found beside the videos and read in our pixel convention."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from videos import write_video

from mouselift.data.recording import open_recording
from mouselift.data.tracks import find_tracks, read_deeplabcut, read_sleap
from mouselift.errors import InputError

FRAMES, KNOWN = 5, np.array([[10.0, 20.0], [30.0, 25.0], [40.0, 44.0]])


def write_sleap(path: Path, animals: int = 1, frames: int = FRAMES) -> Path:
    points = np.broadcast_to(KNOWN[None], (frames, 3, 2)) + np.arange(frames)[:, None, None]
    points = points.copy()
    points[2, 1] = np.nan
    with h5py.File(path, "w") as file:
        file["tracks"] = np.stack([points.transpose(2, 1, 0)] * animals)
    return path


def write_deeplabcut(path: Path, header: str = "x,y,likelihood") -> Path:
    rows = [f"scorer{',net' * 9}", "bodyparts" + "".join(f",{p},{p},{p}" for p in "abc"), f"coords{f',{header}' * 3}"]
    for frame in range(FRAMES):
        cells = [f"{x + frame},{y + frame},{0.2 if (frame, k) == (2, 1) else 0.9}" for k, (x, y) in enumerate(KNOWN)]
        rows.append(f"{frame},{','.join(cells)}")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    for camera, name in enumerate(("left", "right", "top")):
        write_video(tmp_path / name / f"mouse_{name}.mp4", FRAMES, camera=camera)
    return tmp_path


def test_sleap_and_deeplabcut_are_found_beside_their_videos(rig: Path) -> None:
    assert find_tracks(open_recording(rig)) is None
    write_sleap(rig / "left" / "mouse_left_proofread.analysis.h5")
    write_deeplabcut(rig / "top" / "mouse_topDLC_resnet50_cageJan1shuffle1_100.csv")
    tracks = find_tracks(open_recording(rig))
    assert tracks is not None
    assert len(tracks.sources) == 2
    left, right, top = tracks.points
    assert right is None
    assert left is not None
    assert np.array_equal(left, top, equal_nan=True)
    assert np.array_equal(left[3], KNOWN + 3 + 0.5)
    assert np.isnan(left[2, 1]).all()
    assert np.isfinite(left[2, 0]).all()
    assert [len(points) for points in tracks.at([0, 0, 0])] == [3, 0, 3]


def test_what_is_refused(rig: Path) -> None:
    sleap, table = write_sleap(rig / "left" / "mouse_left.analysis.h5"), rig / "dlc.csv"
    with pytest.raises(InputError, match="expected points of 9 frames, found 5"):
        read_sleap(sleap, 9)
    with pytest.raises(InputError, match="expected one animal, found 2 tracks"):
        read_sleap(write_sleap(rig / "two.h5", animals=2), FRAMES)
    with pytest.raises(InputError, match="expected columns x, y, likelihood"):
        read_deeplabcut(write_deeplabcut(table, "y,x,likelihood"), FRAMES)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="expected a table of DeepLabCut"):
        read_deeplabcut(table, FRAMES)
    (rig / "left" / "mouse_left.analysis.h5").write_bytes(b"nothing")
    with pytest.raises(InputError, match="expected an analysis file of SLEAP"):
        find_tracks(open_recording(rig))
    write_sleap(rig / "left" / "mouse_left_old.analysis.h5")
    with pytest.raises(InputError, match=r"expected one file of tracks for mouse_left\.mp4"):
        find_tracks(open_recording(rig))


@pytest.mark.data
def test_tracks_of_real_recordings(test_data: Path) -> None:
    folder = test_data / "sleap_anipose_mouse4cam"
    if not folder.is_dir():
        pytest.skip(f"no recording at {folder}")
    recording = open_recording(folder, calibration=folder / "recalibrated.anipose.toml")
    tracks = find_tracks(recording)
    assert tracks is not None
    for points, view in zip(tracks.points, recording.views, strict=True):
        assert points is not None
        assert points.shape == (120, 15, 2)
        known = points[np.isfinite(points)]
        assert 0 < known.min() < known.max() < view.frames.size[0]
