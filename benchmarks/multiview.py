"""One view to six: how near the made views come to the true ones, and how well they agree with each other.

    python benchmarks/multiview.py --dataset datasets/heldout --training datasets/synthetic -o runs/multiview
    python benchmarks/multiview.py ... --weights runs/generator_full/final.safetensors runs/... --steps 1 16

Every mouse of the dataset: from one free photograph with its true camera the six views of the rig around it. A way is
judged by its views (foreground PSNR, SSIM and ST-LPIPS, IoU of the silhouettes) and by their consistency: Gaussians are
fitted to the six views from their visual hull, and `consistency` is the foreground PSNR with which they then show these
same six views. It says nothing about the truth: true views, and views of any one model, come to about 30 dB, and smooth
views agree more easily than sharp ones.

Ways: the generator (one for each weights file) with every number of steps and every guidance, the fitted and painted
body, the true views, the photograph itself and the mean training picture. Means over mice with 95 % bootstrap
intervals, and differences from the first generator's first way, mouse by mouse. Each mouse is written to mice.jsonl at
once: a run that was interrupted goes on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from mice_log import MiceLog, hash_of
from tqdm import tqdm

from mouselift.atomic import atomic_path
from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import Sample
from mouselift.data.selection import facelift_subset, split_rig_and_free
from mouselift.evaluate import figures_of, mean_image, mean_view, nearest_view
from mouselift.evaluate.figures import interval
from mouselift.export.charts import Curve, curves, write_charts
from mouselift.export.picture import contact_sheet
from mouselift.export.report_html import Html
from mouselift.geometry import Views
from mouselift.geometry.hull import hull_gaussians
from mouselift.metrics import psnr_fg
from mouselift.models.bundled import load_models, weights_path
from mouselift.models.checkpoint_io import load_generator
from mouselift.models.generator import Generator
from mouselift.perceptual import load_perceptual
from mouselift.reconstruct import ReconstructConfig, reconstruct_sample
from mouselift.refine import refine
from mouselift.render import render

WHITE = torch.ones(3)
CONSISTENCY_STEPS = 100
MIN_MASK = 0.5  # where made masks count as the animal when made views are compared with each other
TRAINING_SAMPLES = 400  # in the mean picture
SHOWN_MICE = 4
Figures = dict[str, dict[str, float]]  # of one mouse: way -> metric -> value
Way = Callable[[Sample, Views, Views], Views]  # sample, photograph (1,), true views (6,) over white -> made views (6,)


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A generator's way.

    Attributes:
        line: Of the chart: which generator and guidance.
        steps: Of the sampler.
        make: The views.
    """

    line: str
    steps: int
    make: Way


def benchmark_multiview(
    dataset: Path,
    training: Path,
    out: Path,
    weights: tuple[Path, ...] = (),
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 50),
    guidance: tuple[float, ...] = (1.0,),
    mice: int | None = None,
) -> None:
    """Print the tables, and write them with a chart and a sheet of pictures.

    Args:
        dataset: Held-out mice, made by `mouselift synth`.
        training: Where the mean picture comes from.
        out: Folder for mice.jsonl, multiview.md, steps.svg and multiview.png.
        weights: Of generators; the shipped one by default.
        steps: Of the generators.
        guidance: Of the generators.
        mice: Only the first ones.
    """
    held_out = MouseDataset(dataset, "val", mice)
    _, perceptual = load_perceptual()
    weights = weights or (weights_path("generator"),)
    generators = _generators(weights, steps, guidance)
    ways = {"true views": _true_views, **{name: way.make for name, way in generators.items()}, **_baselines(training)}
    body = {name: hash_of(weights_path(name)) for name in ("pose", "gslrm")}
    used = {"weights": [hash_of(path) for path in weights], **body, "dataset": hash_of(dataset)}
    log = MiceLog(out / "mice.jsonl", {**used, "training": hash_of(training), "ways": list(ways)}, len(held_out))
    found, rows = log.found, []
    for number in tqdm(range(len(held_out)), unit="mouse"):
        if number < len(found) and number >= SHOWN_MICE:
            continue
        sample = held_out[number]
        photograph, truth = _task(sample)
        figures: Figures = {}
        row = [("photograph", photograph.images[0])]
        for name, way in ways.items():
            started = time.perf_counter()
            made = way(sample, photograph, truth)
            seconds = time.perf_counter() - started
            row += [(name, image) for image in made.images[1:5:2]]
            if number < len(found):
                continue
            measured = figures_of(made.images, made.masks, truth, perceptual)
            values = {key: float(value.nanmean()) for key, value in measured.items()}
            figures[name] = {**values, "consistency": agreement(made), "seconds": seconds}
        if number < SHOWN_MICE:
            rows.append(row)
        if number >= len(found):
            log.add(figures)
    contact_sheet(rows, out / "multiview.png")
    text = _table(found) + "\n" + _differences(found, next(iter(generators)))
    with atomic_path(out / "multiview.md") as partial:
        partial.write_text(text)
    if len(steps) > 1:
        write_charts(_charts(found, generators), out / "steps.svg")
    print(text)


def agreement(made: Views) -> float:
    """Foreground PSNR with which Gaussians fitted to views (V,) over white show these very views; NaN without any."""
    straight = Views(images=made.images, masks=(made.masks > MIN_MASK).float(), cameras=made.cameras)
    start = hull_gaussians(straight)
    if not len(start):
        return float("nan")
    fitted = refine(start, straight, torch.ones(len(made.cameras)), CONSISTENCY_STEPS)
    shown = render(fitted, made.cameras, WHITE).image
    return float(psnr_fg(shown, made.images, straight.masks).nanmean())


def _task(sample: Sample) -> tuple[Views, Views]:
    """A free photograph, and the true rig views around it, over white."""
    on_rig, free = split_rig_and_free(sample.views)
    chosen = (free or on_rig)[0]
    rig = facelift_subset(sample.views.cameras, on_rig, chosen)
    return sample.views[[chosen]].over(WHITE), sample.views[rig].over(WHITE)


def _true_views(sample: Sample, photograph: Views, truth: Views) -> Views:
    return truth


def _baselines(training: Path) -> dict[str, Way]:
    models = load_models()
    data = MouseDataset(training, "train", TRAINING_SAMPLES)
    mean = mean_view(data[i] for i in range(len(data)))

    def body(sample: Sample, photograph: Views, truth: Views) -> Views:
        chosen = sample.views.cameras.names.index(photograph.cameras.names[0])
        result = reconstruct_sample(sample, [chosen], config=ReconstructConfig(), models=models)
        shown = render(result.gaussians, truth.cameras, WHITE)
        return Views(images=shown.image.clamp(0, 1), masks=shown.alpha.clamp(0, 1), cameras=truth.cameras)

    def the_photograph(sample: Sample, photograph: Views, truth: Views) -> Views:
        images, masks = nearest_view(photograph, truth)
        return Views(images=images, masks=masks, cameras=truth.cameras)

    def mean_picture(sample: Sample, photograph: Views, truth: Views) -> Views:
        images, masks = mean_image(mean, truth)
        return Views(images=images, masks=masks, cameras=truth.cameras)

    return {"body": body, "nearest view": the_photograph, "mean picture": mean_picture}


def _generators(weights: Sequence[Path], steps: Sequence[int], guidance: Sequence[float]) -> dict[str, Generated]:
    ways: dict[str, Generated] = {}
    for path in weights:
        model = load_generator(path)
        for scale in guidance:
            line = path.parent.name if path.stem in ("best", "final") else "generator"
            line += f", guidance {scale:g}" if scale != 1 else ""
            for count in steps:
                name = f"{line}, {count} step{'s' * (count > 1)}"
                if name in ways:
                    raise SystemExit(f"{path}: expected weights in folders of different names, found two of {line}")
                ways[name] = Generated(line=line, steps=count, make=_generated(model, count, scale))
    return ways


def _generated(model: Generator, steps: int, guidance: float) -> Way:
    def way(sample: Sample, photograph: Views, truth: Views) -> Views:
        given = sample.views[[sample.views.cameras.names.index(photograph.cameras.names[0])]]
        rig = truth.cameras.reshape(1, len(truth.cameras))
        dice = torch.Generator().manual_seed(0)
        made = model.generate(given.reshape(1, 1), rig, steps=steps, guidance=guidance, generator=dice)[0]
        return made.over(WHITE)

    return way


def _values(found: Sequence[Figures], way: str, metric: str) -> torch.Tensor:
    return torch.tensor([figures[way][metric] for figures in found])


def _table(found: Sequence[Figures]) -> str:
    """Means with 95 % bootstrap intervals, and the median time."""
    metrics = [name for name in next(iter(found[0].values())) if name != "seconds"]
    lines = ["| way | " + " | ".join(metrics) + " | s |", "|---|" + "---|" * (len(metrics) + 1)]
    for way in found[0]:
        entries = [interval(_values(found, way, metric)) for metric in metrics]
        cells = [f"{e['mean']:.3f} [{e['low']:.3f}, {e['high']:.3f}]" for e in entries]
        lines.append(f"| {way} | {' | '.join(cells)} | {_values(found, way, 'seconds').median():.2f} |")
    return f"{len(found)} mice\n\n" + "\n".join(lines) + "\n"


def _differences(found: Sequence[Figures], reference: str) -> str:
    """Mean difference of every way from one of them on the same mice, with its interval."""
    metrics = [name for name in found[0][reference] if name != "seconds"]
    lines = [f"Minus `{reference}`, mouse by mouse:", "", "| way | " + " | ".join(metrics) + " |"]
    lines.append("|---|" + "---|" * len(metrics))
    for way in found[0]:
        if way == reference:
            continue
        entries = [interval(_values(found, way, metric) - _values(found, reference, metric)) for metric in metrics]
        cells = [f"{e['mean']:+.3f} [{e['low']:+.3f}, {e['high']:+.3f}]" for e in entries]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _charts(found: Sequence[Figures], generators: dict[str, Generated]) -> list[Html]:
    """Every metric over the number of steps, a line for each generator and guidance."""
    ticks = tuple(dict.fromkeys(way.steps for way in generators.values()))
    charts = []
    for metric in (name for name in next(iter(found[0].values())) if name != "seconds"):
        lines: dict[str, list[tuple[int, dict[str, float]]]] = {}
        for name, way in generators.items():
            lines.setdefault(way.line, []).append((way.steps, interval(_values(found, name, metric))))
        drawn = [
            Curve(
                name=line,
                points=tuple((count, entry["mean"]) for count, entry in points),
                low=tuple(entry["low"] for _, entry in points),
                high=tuple(entry["high"] for _, entry in points),
            )
            for line, points in lines.items()
        ]
        charts.append(curves(drawn, metric, x_label="steps", y_label=_unit(metric), x_ticks=ticks, x_log=True))
    return charts


def _unit(metric: str) -> str:
    return "dB" if metric.startswith(("psnr", "consistency")) else ""


if __name__ == "__main__":
    tyro.cli(benchmark_multiview)
