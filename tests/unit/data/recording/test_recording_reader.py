"""Cameras in step: bounded memory, clean ends, errors that name the camera; sync tables."""

import threading
import tracemalloc
import weakref
from collections.abc import Generator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from videos import read_number, write_video

from mouselift.data.recording import Recording, ViewSource, read_instants
from mouselift.data.recording.footage import scan_footage
from mouselift.data.recording.reader import PREFETCH, Prefetched
from mouselift.data.recording.sync import read_sync
from mouselift.errors import InputError


def recording_of(root: Path, lengths: list[int], sync: np.ndarray | None = None) -> Recording:
    views = tuple(
        ViewSource(
            name=f"cam{camera}", frames=scan_footage([write_video(root / f"{camera}.mp4", length, camera=camera)])
        )
        for camera, length in enumerate(lengths)
    )
    return Recording(root=root, layout="test", calibration=None, views=views, sync=sync)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return recording_of(tmp_path_factory.mktemp("recording"), [50, 50, 50])


@given(indices=st.sets(st.integers(0, 49), max_size=8))
def test_any_increasing_choice_of_instants(recording: Recording, indices: set[int]) -> None:
    chosen = sorted(indices)
    instants = list(read_instants(recording, chosen))
    assert [instant.index for instant in instants] == chosen
    for instant in instants:
        assert [read_number(frame) for frame in instant.frames] == [(instant.index, camera) for camera in range(3)]


def test_sync_tables_give_each_camera_its_own_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = np.cumsum(rng.integers(0, 3, (20, 2)), axis=0)  # frames are skipped, and shown twice
    recording = recording_of(tmp_path, [50, 50], table)
    for instant in read_instants(recording, range(0, 20, 3)):
        assert [read_number(frame)[0] for frame in instant.frames] == table[instant.index].tolist()


def test_wrong_indices(recording: Recording) -> None:
    with pytest.raises(InputError, match="instants 0 to 49 exist, asked for 50"):
        next(read_instants(recording, [3, 50]))
    with pytest.raises(ValueError, match="increasing order"):
        next(read_instants(recording, [3, 3]))


def threads_of_cameras() -> int:
    return sum("ThreadPoolExecutor" in thread.name for thread in threading.enumerate())


def test_stopping_early_ends_all_threads(recording: Recording) -> None:
    before = threads_of_cameras()
    instants = read_instants(recording, range(50))
    next(instants)
    assert threads_of_cameras() == before + 3
    instants.close()
    assert threads_of_cameras() == before


def test_an_error_names_camera_file_and_frame_and_ends_all_threads(tmp_path: Path) -> None:
    recording = recording_of(tmp_path, [50, 50, 50])
    path = tmp_path / "1.mp4"
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.is_keyframe][1]
        start, end = packet.pos + 40, packet.pos + packet.size
    content = bytearray(path.read_bytes())
    content[start:end] = bytes(255 - byte for byte in content[start:end])
    path.write_bytes(content)
    before, seen = threads_of_cameras(), []
    with pytest.raises(InputError, match=r"camera cam1: .*1\.mp4: damaged at (or after )?frame \d+"):
        seen.extend(instant.index for instant in read_instants(recording, range(50)))
    assert 10 < len(seen) <= 20
    assert threads_of_cameras() == before


def test_a_file_that_vanished(tmp_path: Path) -> None:
    recording = recording_of(tmp_path, [5, 5])
    (tmp_path / "1.mp4").unlink()
    with pytest.raises(InputError, match=r"camera cam1: .*1\.mp4: expected a video, found: No such file"):
        list(read_instants(recording, range(5)))


class _Frame:
    """Something that can be counted while it lives."""


def test_never_more_than_a_few_frames_live() -> None:
    alive: "weakref.WeakSet[_Frame]" = weakref.WeakSet()
    most = 0

    def frames() -> Generator[_Frame, None, None]:
        for _ in range(300):
            frame = _Frame()
            alive.add(frame)
            yield frame

    count = 0
    with Prefetched(frames(), PREFETCH) as ahead:
        for _ in ahead:
            most = max(most, len(alive))
            count += 1
    assert count == 300
    assert most <= PREFETCH + 2  # those ahead, the consumer's, and the one that the generator still holds


def test_prefetching_passes_errors_on_and_closes_the_generator() -> None:
    closed = threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            yield from range(3)
            raise InputError("three is too many")
        finally:
            closed.set()

    with Prefetched(items(), 2) as ahead:
        assert [next(ahead) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(InputError, match="three is too many"):
            next(ahead)
    closed.clear()
    with Prefetched(items(), 2) as ahead:
        assert next(ahead) == 0
    assert closed.is_set()


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """Masks and their like are Python's memory; frames are FFmpeg's, of which the test above counts the holders."""
    peaks = []
    for length in (40, 160):
        recording = recording_of(tmp_path, [length, length])
        views = tuple(ViewSource(name=v.name, frames=v.frames, masks=v.frames) for v in recording.views)
        masked = Recording(root=tmp_path, layout="test", calibration=None, views=views)
        tracemalloc.start()
        for instant in read_instants(masked, range(length)):
            assert instant.masks is not None
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 0.1 * 2 * 120 * 64 * 48  # of the masks that there are more


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,c\n0,0\n", "expected frame numbers of b, found those of a, c"),
        ("a,b\n0,0\n1,\n", "expected a line of camera names and lines of frame numbers"),
        ("a,b\n0,0\n1,nan\n", "row 1, b: expected a frame number, found nan"),
        ("a,b\n0,0\n1,0.5\n", "row 1, b: expected a frame number, found 0.5"),
        ("a,b\n0,-1\n", "row 0, b: expected a frame number, found -1"),
        ("a,b\n0,5\n1,4\n", "row 1, b: expected frame 5 or later, found 4"),
        ("a,b\n", "expected as many frame numbers for every camera, found a 0, b 0"),
        ("", "expected a line of camera names"),
    ],
)
def test_sync_tables_that_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "sync.csv").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_sync(tmp_path / "sync.csv", ["a", "b"])
    assert "sync.csv" in str(caught.value)


@pytest.mark.data
def test_dannces_own_table(test_data: Path) -> None:
    names = [f"Camera{k}" for k in range(1, 7)]
    table = read_sync(test_data / "dannce_markerless_mouse/markerless_mouse_1/label3d_dannce.mat", names)
    np.testing.assert_array_equal(table, np.repeat(np.arange(18000)[:, None], 6, axis=1))
