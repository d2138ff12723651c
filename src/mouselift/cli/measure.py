"""Commands that judge models: `evaluate`, `overfit`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from mouselift.cli.app import Out, app
from mouselift.cli.options import USUAL, How
from mouselift.errors import InputError

if TYPE_CHECKING:  # torch is imported only when a command runs
    from mouselift.perceptual import Perceptual

EXIT_FAILED = 1  # the test ran, and its verdict is FAIL


@app.command
def evaluate(
    dataset: Path,
    out: Out,
    training: Path | None = None,
    mean_samples: int = 256,
    index: Path | None = None,
    limit: int | None = None,
    num_views: str = "1",
    split: Literal["val", "train", "both"] = "val",
    how: How = USUAL,
    scene_fit: int = 400,
    perceptual: str = "auto",
    keypoints: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Reconstruction of held-out views and instants beside baselines: figures, a table and a report.

    Args:
        dataset: What is evaluated.
        out: Folder for report.html, metrics.json, views.csv, index.json, table.md and views.png.
        training: Dataset whose training split gives the mean image; the same one when not given.
        mean_samples: How many training samples the mean image is made of.
        index: File that names samples, given and compared views; without one they are chosen as below, and written.
        limit: At most this many samples of a split, spread evenly.
        num_views: Numbers of given views, as in 1 or 1,2,4,6; all are compared with the same other views.
        split: val: instants that training never saw; train: held-out views of those that it did; or both.
        how: How the Gaussians are made, and by which weights; --refine 0 for the networks alone.
        scene_fit: Steps of the baseline `refine`, a fit of each scene without a network; 0 leaves it out.
        perceptual: auto (ST-LPIPS where it is installed), none, or a file of weights of a perceptual distance.
        keypoints: .npz with keypoints_mm, 3D labels of the recording; the samples' own when not given.
        overwrite: Replace an output folder that has something in it.
    """
    from mouselift.cli.models import parse_views
    from mouselift.data.dataset import MouseDataset
    from mouselift.evaluate.baselines import mean_view
    from mouselift.evaluate.index import make_index, read_index
    from mouselift.evaluate.keypoints import read_labels
    from mouselift.evaluate.run import EvaluateConfig
    from mouselift.evaluate.run import evaluate as evaluate_index
    from mouselift.export.evaluation import write_evaluation
    from mouselift.export.result import check_output
    from mouselift.models.bundled import shipped_models

    check_output(out, overwrite)
    if index is None:
        splits = ("val", "train") if split == "both" else (split,)
        chosen = make_index(dataset, parse_views(num_views), splits=splits, limit=limit)
    else:
        chosen = read_index(index, dataset)
    data = MouseDataset(training or dataset, "train", mean_samples)
    done = evaluate_index(
        dataset,
        chosen,
        models=how.models() or shipped_models(),
        mean_training_view=mean_view(data[i] for i in range(len(data))),
        config=EvaluateConfig(reconstruct=how.config(), scene_fit_steps=scene_fit),
        perceptual=_perceptual(perceptual),
        labels=None if keypoints is None else read_labels(keypoints),
    )
    source = f"{how.gslrm or 'the shipped weights'} on {dataset}"
    sys.stdout.write(write_evaluation(done, out, source) + f"\nreport: {out / 'report.html'}\n")


def _perceptual(name: str) -> "Perceptual | None":
    """The distance; without its optional package "auto" says so and goes on without."""
    from mouselift.perceptual import load_perceptual

    if name == "none":
        return None
    try:
        return load_perceptual(None if name == "auto" else name)[1]
    except InputError as error:
        if name != "auto":
            raise
        sys.stderr.write(f"no perceptual distance is measured: {error}\n")
        return None


@app.command
def overfit(
    dataset: Path,
    out: Out,
    overrides: Positional[tuple[str, ...]] = (),
    config: Path = Path("configs/overfit.yaml"),
    samples: int = 10,
    overwrite: bool = False,
) -> None:
    """Train GS-LRM on a few samples until it reproduces them: can this dataset be learnt at all?

    Args:
        dataset: Its training split is used; its last camera is left out (left_out).
        out: Folder for verdict.json, report.html, curve.csv, pictures.png and the weights.
        overrides: key=value for the configuration, as in size_px=128 steps=10000 model.width=384.
        config: YAML of an OverfitConfig.
        samples: How many, spread evenly over the training split.
        overwrite: Replace an output folder that has something in it.
    """
    from mouselift.config import load_config
    from mouselift.data.layout import list_samples, read_sample
    from mouselift.evaluate.index import spread
    from mouselift.export.overfit_report import write_overfit
    from mouselift.export.result import check_output
    from mouselift.overfit import OverfitConfig
    from mouselift.overfit import overfit as overfit_samples

    check_output(out, overwrite)
    if samples < 1:
        raise InputError(f"expected at least one sample, found {samples}")
    settings = load_config(OverfitConfig, config, overrides)
    read = [read_sample(folder) for folder in spread(list_samples(dataset, "train"), samples)]
    done = overfit_samples(read, settings)
    summary = write_overfit(done, [sample.sample_id for sample in read], out, str(dataset))
    lines = [f"{summary['verdict']} after {summary['steps']:,} steps in {summary['seconds'] / 60:.1f} min"]
    lines += [f"  {reason}" for reason in done.verdict.reasons]
    sys.stdout.write("\n".join([*lines, f"report: {out / 'report.html'}"]) + "\n")
    if not done.verdict.passed:
        sys.exit(EXIT_FAILED)
