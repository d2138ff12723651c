"""Cuts, smoothing between them, and splits that leak nothing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat

from mouselift.data.segments import find_joins, segments_of, smooth_track, split_blocks


def walk(length: int, seed: int = 0, step_mm: float = 1.5) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(0, step_mm, (length, 3)), axis=0)


def test_a_join_is_found_where_it_is() -> None:
    track = walk(200)
    track[120:] += 60.0
    assert find_joins(track).tolist() == [120]


def test_a_steady_run_and_missing_instants_are_no_joins() -> None:
    run = np.outer(np.arange(100.0), [12.0, 0.0, 0.0])
    assert len(find_joins(run)) == 0
    track = walk(100)
    track[40:45] = np.nan
    assert len(find_joins(track)) == 0


@pytest.mark.data
def test_the_joins_of_a_real_recording_are_found(test_data: Path) -> None:
    """markerless_mouse_1 was joined at 5900, 11800 and 17700; a few quick turns may be cut as well."""
    path = test_data / "dannce_markerless_mouse/markerless_mouse_1/label3d_dannce.mat"
    if not path.is_file():
        pytest.skip(f"no track at {path}")
    centres = loadmat(path, simplify_cells=True)["com"]["com3d"].astype(np.float64)
    found = find_joins(centres).tolist()
    assert {5900, 11800, 17700} <= set(found)
    assert len(found) <= 8


@given(st.integers(2, 60), st.lists(st.integers(-5, 70), max_size=4))
def test_segments_cover_everything_once(length: int, cuts: list[int]) -> None:
    segments = segments_of(length, cuts)
    assert [i for first, last in segments for i in range(first, last)] == list(range(length))
    assert {first for first, _ in segments} == {0, *(c for c in cuts if 0 < c < length)}


def test_smoothing_never_looks_across_a_cut() -> None:
    track = np.zeros((40, 3))
    track[20:] = 100.0
    times = np.arange(40) / 100
    np.testing.assert_allclose(smooth_track(track, times, [20], 0.05), track)
    blurred = smooth_track(track, times, [], 0.05)
    assert 20 < blurred[19, 0] < 80
    assert np.all(np.diff(blurred[:, 0]) >= 0)


def test_smoothing_reduces_noise_and_leaves_far_instants_alone() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (400, 3))
    times = np.arange(400) / 100
    assert smooth_track(noise, times, [], 0.03).std() < 0.5
    sparse = smooth_track(noise, times * 100, [], 0.03)
    np.testing.assert_allclose(sparse, noise)
    noise[7] = np.nan
    smoothed = smooth_track(noise, times, [], 0.03)
    assert np.isnan(smoothed[7]).all()
    assert np.isfinite(np.delete(smoothed, 7, axis=0)).all()


@given(
    count=st.integers(2, 200),
    share=st.floats(0.02, 0.5),
    gap=st.integers(0, 30),
    cut=st.integers(0, 200),
    every=st.integers(1, 5),
)
def test_splits_keep_their_distance(count: int, share: float, gap: int, cut: int, every: int) -> None:
    instants = np.arange(count, dtype=np.int64) * every
    split = split_blocks(instants, [cut], share, gap)
    assert not (split.train & split.val).any()
    assert split.val.any()
    assert 2 * split.train.sum() >= (~split.val).sum()
    assert split.val.sum() == min(max(round(share * count), 1), count - 1)
    between = np.abs(instants[split.train][:, None] - instants[split.val][None])
    same = (instants[split.train][:, None] >= cut) == (instants[split.val][None] >= cut)
    left_out = ~(split.train | split.val)
    if left_out.sum() > 0 and 2 * gap * split.val.sum() < count:  # there was room for the whole gap
        assert between[same].min() >= min(gap, between[same].max())


def test_no_validation_when_none_is_wanted() -> None:
    split = split_blocks(np.arange(50, dtype=np.int64), [], 0.0, 10)
    assert split.train.all()
    assert not split.val.any()
