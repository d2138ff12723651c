"""The part of `reconstruct` that reads a recording."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mouselift.errors import InputError

if TYPE_CHECKING:  # torch is imported only when a command runs
    from mouselift.data.layout import Sample
    from mouselift.models.bundled import Models
    from mouselift.reconstruct import ReconstructConfig, Reconstruction


def reconstruct_recording(
    recording: Path,
    calibration: Path | None,
    wanted: tuple[int | None, str | None, list[int] | None],
    out: Path,
    *,
    units: Literal["scene", "mm"],
    config: "ReconstructConfig",
    models: "Models | None",
) -> None:
    """Reconstruct one instant of a recording, or several into folders of their own.

    Args:
        recording: Its folder, or a recording.yaml.
        calibration: Where the recording holds none or several.
        wanted: The instant or the text that names several, and the cameras; all of them when None.
        out: The output folder.
        units: Of the Gaussians.
        config: How.
        models: Other weights than the shipped ones.
    """
    from mouselift.cli.models import report
    from mouselift.data.recording import open_recording
    from mouselift.export.result import write_result
    from mouselift.export.rig_sequence import write_rig_sequence
    from mouselift.reconstruct import reconstruct_sample
    from mouselift.rig import Instants, parse_instants, recorded_samples

    frame, frames, views = wanted
    if (frame is None) == (frames is None):
        raise InputError(
            "expected --frame 123 or --frames 0:300:30 with --recording, found "
            + ("neither" if frame is None else "both")
        )
    instants = parse_instants(frames) if frames is not None else Instants(first=frame or 0, end=(frame or 0) + 1)
    opened = open_recording(recording, calibration=calibration)

    def made(sample: "Sample") -> "Reconstruction":
        chosen = list(range(len(sample.views.cameras))) if views is None else views
        return reconstruct_sample(sample, chosen, config=config, models=models)

    def results() -> "Iterator[tuple[int, Reconstruction]]":
        for sample in recorded_samples(opened, instants):
            sys.stdout.write(f"instant {sample.frame_index}\n")
            sys.stdout.flush()
            yield sample.frame_index, made(sample)

    if frames is not None:
        summary = write_rig_sequence(results(), out, units)
        sys.stdout.write(f"{len(summary['instants'])} instants in {out}: play them with mouselift view {out}\n")
        return
    (result,) = (result for _, result in results())
    report(write_result(result, out, units=units), out)
