"""Commands about models: `reconstruct`, `refine`, `demo`, `train`."""

import logging
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from mouselift.cli.app import Out, app
from mouselift.cli.options import USUAL, How
from mouselift.errors import InputError


@app.command
def reconstruct(
    picture: Positional[Path | None] = None,
    /,
    *,
    out: Out,
    mask: Path | None = None,
    box: str | None = None,
    sample: Path | None = None,
    recording: Path | None = None,
    frame: int | None = None,
    frames: str | None = None,
    calibration: Path | None = None,
    input_views: str | None = None,
    units: Literal["scene", "mm"] = "scene",
    how: How = USUAL,
    overwrite: bool = False,
) -> None:
    """Turn one picture of a mouse, or calibrated views of one instant, into a 3D Gaussian model.

    Args:
        picture: The picture; its alpha is the mask when it has any, else a network finds the animal.
        out: Folder for gaussians.ply, turntable.mp4, views.png, viewer.html and summary.json.
        mask: Grey picture of the same size, white on the animal.
        box: x0,y0,x1,y1 in pixels: where the animal is, when the network needs help.
        sample: Instead of a picture: a sample folder of a dataset, with its cameras.
        recording: Instead of a picture: a calibrated recording with masks (folder or recording.yaml).
        frame: Which of its instants.
        frames: Several of its instants, first:end:every as in 0:300:30; the results get folders of their own, and a
            film.
        calibration: The calibration file, where the recording holds none or several.
        input_views: Which views to use, as in 0,2,4, cameras of a recording counted by azimuth; one goes the way of a
            picture, several go straight to GS-LRM. The first of a sample or all of a recording when not given.
        units: Of gaussians.ply: the scene's, or mm of the rig's world.
        how: How the Gaussians are made, and by which weights.
        overwrite: Replace an output folder that has something in it.
    """
    from mouselift.data.foreground import parse_box
    from mouselift.data.layout import read_sample
    from mouselift.export.result import check_output, write_result
    from mouselift.reconstruct import reconstruct as reconstruct_picture
    from mouselift.reconstruct import reconstruct_sample

    sources = {"a picture": picture, "--sample": sample, "--recording": recording}
    named = [name for name, value in sources.items() if value is not None]
    if len(named) != 1:
        raise InputError(
            f"expected one of a picture, --sample and --recording, found {' and '.join(named) or 'none of them'}"
        )
    if units == "mm" and picture is not None:
        raise InputError("expected --units mm with --sample or --recording, found a picture, which has no calibration")
    check_output(out, overwrite)
    config, models = how.config(), how.models()
    if recording is not None:
        from mouselift.cli.rig import reconstruct_recording

        wanted = (frame, frames, None if input_views is None else parse_views(input_views))
        reconstruct_recording(recording, calibration, wanted, out, units=units, config=config, models=models)
        return
    if sample is not None:
        result = reconstruct_sample(read_sample(sample), parse_views(input_views or "0"), config=config, models=models)
    else:
        assert picture is not None  # one of the three is given
        window = None if box is None else parse_box(box)
        result = reconstruct_picture(picture, mask=mask, box=window, config=config, models=models)
    report(write_result(result, out, units=units), out)


@app.command
def refine(
    sample: Positional[Path],
    /,
    *,
    out: Out,
    input_views: str | None = None,
    init: str = "hull",
    steps: int = 400,
    opacity_weight: float = 0.0,
    scale_weight: float = 0.0,
    prune_every: int = 100,
    device: str = "auto",
    gslrm: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Fit a 3D Gaussian model to the calibrated views of one instant, by gradient.

    Args:
        sample: A sample folder of a dataset, with its cameras.
        out: Folder for gaussians.ply, turntable.mp4, views.png, viewer.html and summary.json; with left_out.png when
            the sample has views that were not given.
        input_views: Which views to fit to, as in 0,1,2; all of them when not given. The others are compared with.
        init: Where to start: hull, gslrm, or a file of Gaussians.
        steps: Of the fit.
        opacity_weight: Of the mean opacity in what is minimised: makes what is not needed fade.
        scale_weight: Of the mean width, scene units: keeps Gaussians small.
        prune_every: Steps between two rounds of pruning of what no view needs; 0 for none.
        device: auto, cpu or cuda.
        gslrm: Other weights than the shipped ones, for --init gslrm.
        overwrite: Replace an output folder that has something in it.
    """
    from mouselift.data.layout import read_sample
    from mouselift.export.result import check_output, write_result
    from mouselift.models.bundled import load_models
    from mouselift.optimise import OptimiseConfig, compare_left_out, optimise_sample

    check_output(out, overwrite)
    config = OptimiseConfig(
        init=init,
        steps=steps,
        opacity_weight=opacity_weight,
        scale_weight=scale_weight,
        prune_every=prune_every,
        device=device,
    )
    read = read_sample(sample)
    chosen = list(range(len(read.views.cameras))) if input_views is None else parse_views(input_views)
    models = None if gslrm is None else load_models(gslrm)
    result = optimise_sample(read, chosen, config=config, models=models, progress=True)
    left_out = compare_left_out(read, chosen, {"refine": result.gaussians})
    report(write_result(result, out, left_out), out)


@app.command
def demo(out: Out = Path("demo_out"), overwrite: bool = True) -> None:
    """Reconstruct the bundled picture.

    Args:
        out: Folder for the results.
        overwrite: Replace an earlier demo.
    """
    picture = Path(str(resources.files("mouselift"))) / "assets" / "demo_mouse.jpg"
    reconstruct(picture, out=out, overwrite=overwrite)


@app.command
def train(
    model: Positional[Literal["gslrm", "generator", "pose", "mvunet"]],
    /,
    overrides: Positional[tuple[str, ...]] = (),
    *,
    config: Path = Path("configs/default_small.yaml"),
    out: Out,
) -> None:
    """Train a model; goes on from the checkpoint in the output folder, if there is one.

    Args:
        model: Which one.
        overrides: section.key=value, for instance gslrm.run.steps=100.
        config: YAML file.
        out: Folder for checkpoints, logs and panels.
    """
    from mouselift.config import load_config
    from mouselift.train.run import TrainConfig, run_training

    logging.getLogger("mouselift.train").setLevel(logging.INFO)
    run_training(model, load_config(TrainConfig, config, overrides), out)


def parse_views(text: str) -> list[int]:
    """Read "0,2,4".

    Raises:
        InputError: If the text is something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"expected numbers of views as in 0,2,4, found {text!r}") from None


def report(summary: Mapping[str, Any], out: Path) -> None:
    """Say what a reconstruction's summary holds."""
    lines = [f"{summary['num_gaussians']:,} Gaussians in {summary['total_s']:.1f} s"]
    lines += [f"  {seconds:7.2f} s  {stage}" for stage, seconds in summary["timings_s"].items()]
    for view, ways in summary.get("left_out", {}).items():
        lines += [f"view {view} left out:"]
        lines += [f"  {way:14} {v['psnr_fg']:6.2f} dB, IoU {v['iou_alpha']:.3f}" for way, v in ways.items()]
    lines += [f"results in {out}:"] + [f"  {path.name}" for path in sorted(out.iterdir())]
    sys.stdout.write("\n".join(lines) + "\n")
