"""One view to six: how near the made views come to the true ones, and how well they agree with each other.

    python benchmarks/multiview.py --dataset datasets/heldout --training datasets/synthetic -o runs/multiview
    python benchmarks/multiview.py ... --weights runs/generator_full/final.safetensors runs/...

Every mouse of the dataset: from one free photograph with its true camera the six views of the rig around it. A way is
judged by its views (foreground PSNR, SSIM and ST-LPIPS, IoU of the silhouettes) and by their consistency: Gaussians are
fitted to the six views from their visual hull, and `consistency` is the foreground PSNR with which they then show these
same six views. What true views reach there is the bound.

Ways: the generator (one for each weights file) with every number of steps, the fitted and painted body, the true views,
the photograph itself and the mean training picture. Means over mice with 95 % bootstrap intervals.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from mouselift.atomic import atomic_path
from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import Sample
from mouselift.data.selection import facelift_subset, split_rig_and_free
from mouselift.evaluate import figures_of, mean_image, mean_view, nearest_view
from mouselift.export.picture import contact_sheet
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
BOOTSTRAP_DRAWS = 1000
SHOWN_MICE = 4
Way = Callable[[Sample, Views, Views], Views]  # sample, photograph (1,), true views (6,) over white -> made views (6,)


@dataclass
class Figures:
    """Of one way: metric -> one value for each mouse."""

    of_mice: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def add(self, values: dict[str, float]) -> None:
        """Take down one mouse."""
        for name, value in values.items():
            self.of_mice.setdefault(name, []).append(value)


def benchmark_multiview(
    dataset: Path,
    training: Path,
    out: Path,
    weights: tuple[Path, ...] = (),
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 50),
    mice: int | None = None,
    consistency: bool = True,
) -> None:
    """Print the table, and write it with a sheet of pictures.

    Args:
        dataset: Held-out mice, made by `mouselift synth`.
        training: Where the mean picture comes from.
        out: Folder for multiview.json, multiview.md and multiview.png.
        weights: Of generators; the shipped one by default.
        steps: Of the generators.
        mice: Only the first ones.
        consistency: Fit Gaussians to what every way makes, which takes most of the time.
    """
    held_out = MouseDataset(dataset, "val", mice)
    _, perceptual = load_perceptual()
    ways = _ways(weights or (weights_path("generator"),), steps, training)
    found = {name: Figures() for name in ways}
    rows = []
    for number in tqdm(range(len(held_out)), unit="mouse"):
        sample = held_out[number]
        photograph, truth = _task(sample)
        row = [("photograph", photograph.images[0]), *(("true", image) for image in truth.images[2:5])]
        for name, way in ways.items():
            started = time.perf_counter()
            made = way(sample, photograph, truth)
            found[name].seconds.append(time.perf_counter() - started)
            figures = figures_of(made.images, made.masks, truth, perceptual)
            values = {key: float(value.nanmean()) for key, value in figures.items()}
            if consistency:
                values["consistency"] = agreement(made)
            found[name].add(values)
            row += [(name, image) for image in made.images[2:5]] if "50" not in name else []
        rows.append(row)
    out.mkdir(parents=True, exist_ok=True)
    contact_sheet(
        [row[:4] + row[k : k + 3] for row in rows[:SHOWN_MICE] for k in range(4, len(row), 3)], out / "multiview.png"
    )
    text = _table(found)
    for name, content in (("multiview.md", text), ("multiview.json", json.dumps(_summary(found), indent=1))):
        with atomic_path(out / name) as partial:
            partial.write_text(content)
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


def _ways(weights: tuple[Path, ...], steps: tuple[int, ...], training: Path) -> dict[str, Way]:
    models = load_models(None, None, None)
    data = MouseDataset(training, "train", TRAINING_SAMPLES)
    mean = mean_view(data[i] for i in range(len(data)))

    def true_views(sample: Sample, photograph: Views, truth: Views) -> Views:
        return truth

    def body(sample: Sample, photograph: Views, truth: Views) -> Views:
        names = sample.views.cameras.names
        chosen = names.index(photograph.cameras.names[0])
        result = reconstruct_sample(sample, [chosen], config=ReconstructConfig(), models=models)
        shown = render(result.gaussians, truth.cameras, WHITE)
        return Views(images=shown.image.clamp(0, 1), masks=shown.alpha.clamp(0, 1), cameras=truth.cameras)

    def the_photograph(sample: Sample, photograph: Views, truth: Views) -> Views:
        images, masks = nearest_view(photograph, truth)
        return Views(images=images, masks=masks, cameras=truth.cameras)

    def mean_picture(sample: Sample, photograph: Views, truth: Views) -> Views:
        images, masks = mean_image(mean, truth)
        return Views(images=images, masks=masks, cameras=truth.cameras)

    ways: dict[str, Way] = {"true views": true_views}
    for path in weights:
        model = load_generator(path)
        name = path.parent.name if path.stem in ("best", "final") else "generator"
        ways |= {f"{name}, {count} step{'s' * (count > 1)}": _generated(model, count) for count in steps}
    return ways | {"body": body, "photograph": the_photograph, "mean picture": mean_picture}


def _generated(model: Generator, steps: int) -> Way:
    def way(sample: Sample, photograph: Views, truth: Views) -> Views:
        given = sample.views[[sample.views.cameras.names.index(photograph.cameras.names[0])]]
        made = model.generate(
            given.reshape(1, 1),
            truth.cameras.reshape(1, len(truth.cameras)),
            steps=steps,
            generator=torch.Generator().manual_seed(0),
        )[0]
        return made.over(WHITE)

    return way


def _summary(found: dict[str, Figures]) -> dict[str, dict[str, dict[str, float] | float]]:
    generator = torch.Generator().manual_seed(0)
    summary: dict[str, dict[str, dict[str, float] | float]] = {}
    for name, figures in found.items():
        entry: dict[str, dict[str, float] | float] = {"seconds": float(torch.tensor(figures.seconds).median())}
        for metric, values in figures.of_mice.items():
            low, high = _interval(torch.tensor(values), generator)
            entry[metric] = {"mean": float(torch.tensor(values).nanmean()), "low": low, "high": high}
        summary[name] = entry
    return summary


def _interval(values: Tensor, generator: torch.Generator) -> tuple[float, float]:
    draws = torch.randint(len(values), (BOOTSTRAP_DRAWS, len(values)), generator=generator)
    low, high = torch.quantile(values[draws].nanmean(1), torch.tensor([0.025, 0.975])).tolist()
    return low, high


def _table(found: dict[str, Figures]) -> str:
    summary = _summary(found)
    metrics = [name for name in next(iter(found.values())).of_mice]
    lines = ["| way | " + " | ".join(metrics) + " | s |", "|---|" + "---|" * (len(metrics) + 1)]
    for name, entry in summary.items():
        cells = []
        for metric in metrics:
            value = entry[metric]
            assert isinstance(value, dict)
            cells.append(f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]")
        lines.append(f"| {name} | {' | '.join(cells)} | {entry['seconds']:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(benchmark_multiview)
