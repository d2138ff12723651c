"""When: which instants are looked at, labelled, used, held out and left out, and where a recording is cut."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mouselift.check.keypoints import Keypoints
from mouselift.check.report import Charts, Findings
from mouselift.data.recording import Recording
from mouselift.data.segments import segments_of
from mouselift.export.charts import Lane, spans_of, timeline

LANES = {"train": "training", "val": "validation"}


def add_recording_timeline(
    findings: Findings, recording: Recording, looked_at: Sequence[int], keypoints: Keypoints | None
) -> None:
    """Files, pauses and labels of a recording, and the instants that were looked at."""
    lanes = []
    if recording.sync is None:  # a sync table's instants are no frame numbers
        for starts in sorted({view.frames.starts for view in recording.views}):
            edges = [*starts, recording.num_instants]
            if len(starts) > 1:
                lanes.append(Lane(name="files", spans=tuple((a, b - 1) for a, b in pairwise(edges) if b > a)))
        pauses = sorted({gap.after for view in recording.views for gap in view.frames.gaps})
        if pauses:
            lanes.append(Lane(name="missing frames", spans=tuple((at, at) for at in pauses), hue="bad"))
    if keypoints is not None and keypoints.given:
        known = keypoints.instants[(keypoints.instants >= 0) & (keypoints.instants < recording.num_instants)]
        lanes.append(Lane(name="labels", spans=spans_of(np.unique(known).tolist(), 1), hue="second"))
    lanes.append(Lane(name="looked at", spans=spans_of(list(looked_at), 1)))
    rate = f" at {recording.fps:g} a second" if recording.fps else ""
    intro = f"{recording.num_instants} instants{rate}. Where the recording is cut is found when it is prepared."
    chart = timeline(lanes, recording.num_instants)
    findings.charts.insert(0, Charts(title="Timeline", intro=intro, drawn=(chart,)))


def add_dataset_timeline(
    findings: Findings,
    splits: Mapping[str, Mapping[Path, int]],
    record: Mapping[str, Any],
    looked_at: Sequence[int],
) -> None:
    """Segments, splits, gaps and dropped instants of a dataset.

    Args:
        findings: Added to.
        splits: Name of a split -> sample folder -> instant of the recording.
        record: `dataset.json`.
        looked_at: Instants whose samples are shown.
    """
    instants = sorted({i for samples in splits.values() for i in samples.values()})
    if "recording" not in record or not instants:
        return
    step = int(np.median(np.diff(instants))) if len(instants) > 1 else 1
    dropped = sorted(int(i) for i in record.get("dropped", {}))
    end = max([*instants, *dropped]) + step
    segments = segments_of(end, record.get("cuts", ()))
    lanes = [Lane(name="segments", spans=tuple((a, b - 1) for a, b in _apart(segments, end)), hue="quiet")]
    for split, samples in splits.items():
        hue = "main" if split == "train" else "second"
        lanes.append(Lane(name=LANES.get(split, split), spans=spans_of(list(samples.values()), step), hue=hue))
    if dropped:
        lanes.append(Lane(name="left out", spans=spans_of(dropped, step), hue="bad"))
    lanes.append(Lane(name="looked at", spans=spans_of(list(looked_at), step)))
    count = f"{len(segments)} segment{'s' if len(segments) > 1 else ''}, cut where the animal jumps or files end"
    intro = (
        f"{count}; {len(instants)} samples, every {step} instants or so. Between training and validation lies a gap."
    )
    findings.figures["segments"] = [list(one) for one in segments]
    findings.charts.insert(0, Charts(title="Timeline", intro=intro, drawn=(timeline(lanes, end),)))


def _apart(segments: Sequence[tuple[int, int]], end: int) -> list[tuple[int, int]]:
    """Segments a little shorter than they are, so that cuts between them can be seen."""
    slit = max(1, round(end / 400)) if len(segments) > 1 else 0
    return [(a, max(b - slit, a + 1)) for a, b in segments]
