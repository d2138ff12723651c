"""Time: where a recording is cut, how a track is smoothed between cuts, and how samples are split into sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

MIN_JUMP_MM = 4.0
JUMP_RATIO = 1.45  # of the largest step nearby; on the real recording all three known joins, and four more cuts
NEIGHBOURS = 3
MOTION_FLOOR_MM = 2.0


def find_joins(centres_mm: Float64[np.ndarray, "t 3"]) -> Int64[np.ndarray, "j"]:
    """Indices at which a recording was joined: the track jumps there as nowhere near.

    A cut too many only costs a boundary; a missed one would pair instants that do not belong together. So the threshold
    is low, and quick turns of a running animal may be reported.

    Args:
        centres_mm: Consecutive instants; NaN where the animal was not found, which is never a join.

    Returns:
        The first index after each join, increasing.
    """
    if len(centres_mm) < 2:
        return np.zeros(0, np.int64)
    steps = np.linalg.norm(np.diff(centres_mm, axis=0), axis=1)
    padded = np.pad(steps, NEIGHBOURS, constant_values=0.0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    nearby = np.fmax.reduce(np.delete(windows, NEIGHBOURS, axis=1), axis=1, initial=0.0)  # fmax passes over NaN
    jump = (steps > MIN_JUMP_MM) & (steps > JUMP_RATIO * (nearby + MOTION_FLOOR_MM))
    return np.flatnonzero(jump) + 1


def smooth_track(
    centres_mm: Float64[np.ndarray, "t 3"], times_s: Float64[np.ndarray, "t"], cuts: Sequence[int], sigma_s: float
) -> Float64[np.ndarray, "t 3"]:
    """Gaussian smoothing in time, never across a cut; instants farther apart than a few sigma stay as they are.

    Args:
        centres_mm: NaN rows stay NaN and lend nothing to others.
        times_s: Increasing.
        cuts: First index of every segment but the first.
        sigma_s: Standard deviation of the weights; 0 smooths nothing.
    """
    if sigma_s <= 0:
        return centres_mm.copy()
    result = np.full_like(centres_mm, np.nan)
    for first, last in segments_of(len(centres_mm), cuts):
        known = np.flatnonzero(np.isfinite(centres_mm[first:last]).all(1)) + first
        for i in known:
            near = known[np.abs(times_s[known] - times_s[i]) <= 4 * sigma_s]
            weights = np.exp(-0.5 * ((times_s[near] - times_s[i]) / sigma_s) ** 2)
            result[i] = weights @ centres_mm[near] / weights.sum()
    return result


def segments_of(length: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """First index and one past the last of each stretch between cuts; empty stretches are left out."""
    edges = [0, *sorted({int(c) for c in cuts if 0 < c < length}), length]
    return [(a, b) for a, b in pairwise(edges) if b > a]


@dataclass(frozen=True)
class Split:
    """Which samples train and which validate; the ones in neither lie in the gaps.

    Attributes:
        train: Of each sample.
        val: Of each sample.
    """

    train: Bool[np.ndarray, "n"]
    val: Bool[np.ndarray, "n"]


def split_blocks(
    instants: Int64[np.ndarray, "n"], cuts: Sequence[int], val_share: float, gap_instants: int, num_blocks: int = 3
) -> Split:
    """Contiguous blocks of validation samples spread over the recording, with a gap on both sides of each.

    Neighbouring frames are almost the same picture, so a random split would test on what was trained on. In a recording
    that is too short for such gaps they shrink, until half of the samples remain for training.

    Args:
        instants: Instant of every sample, increasing.
        cuts: Instants at which the recording is cut; a gap is not needed across a cut.
        val_share: Of the samples, about.
        gap_instants: Least distance between a training and a validation sample of one segment.
        num_blocks: Of validation samples; fewer when there are few samples.
    """
    count = len(instants)
    val = np.zeros(count, bool)
    wanted = min(max(round(val_share * count), 1), count - 1) if count > 1 and val_share > 0 else 0
    blocks = min(num_blocks, wanted)
    for k in range(blocks):
        size = wanted // blocks + (k < wanted % blocks)
        centre = (k + 1) * count // (blocks + 1) if blocks > 1 else count - size // 2 - 1
        first = min(max(centre - size // 2, 0), count - size)
        val[first : first + size] = True
    segment = np.searchsorted(np.sort(np.asarray(cuts, np.int64)), instants, side="right")
    while True:
        train = ~val & ~_close_to(val, instants, segment, gap_instants)
        if gap_instants == 0 or 2 * train.sum() >= (~val).sum():
            return Split(train=train, val=val)
        gap_instants //= 2


def _close_to(
    val: Bool[np.ndarray, "n"], instants: Int64[np.ndarray, "n"], segment: Int64[np.ndarray, "n"], gap: int
) -> Bool[np.ndarray, "n"]:
    """Samples less than a gap away from a validation sample of their segment."""
    close = np.zeros(len(val), bool)
    for i in np.flatnonzero(val):
        close |= (np.abs(instants - instants[i]) < gap) & (segment == segment[i])
    return close
