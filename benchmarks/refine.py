"""A camera left out of a calibrated rig: what a fit by gradient shows there, beside a network and trivial baselines.

    mouselift prepare RECORDING -o DATASET max_samples=10
    python benchmarks/refine.py --dataset DATASET --instants 6 --cameras 2 --fit.steps 400

Prints a Markdown table: PSNR over the animal and IoU of the silhouette in the cameras left out, as means over instants
with the standard deviation between instants, the best and the worst; seconds of each fit, the median; Gaussians.
"""

import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from mouselift.data.layout import Sample, list_samples, read_sample
from mouselift.export.picture import contact_sheet
from mouselift.geometry import Gaussians
from mouselift.models.bundled import shipped_models
from mouselift.optimise import OptimiseConfig, compare_left_out, optimise_sample
from mouselift.reconstruct import ReconstructConfig, reconstruct_sample

DEFAULT = OptimiseConfig(device="cpu")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One way at one instant and camera."""

    instant: int
    psnr_fg: float
    iou: float
    seconds: float | None = None
    count: int | None = None


def benchmark_refine(
    dataset: Path,
    instants: int = 6,
    cameras: int = 2,
    first: int = 0,
    fit: OptimiseConfig = DEFAULT,
    fits_only: bool = False,
    pictures: Path | None = None,
) -> None:
    """Measure.

    Args:
        dataset: Made by `mouselift prepare`; both of its splits are used, as nothing here is trained.
        instants: How many, spread evenly.
        cameras: How many are left out of each instant, one at a time; another set in each instant.
        first: Instants to leave aside at the beginning, those that settings were chosen on.
        fit: How to fit; where it starts is the benchmark's.
        fits_only: Leave out the network's own results.
        pictures: A sheet of the first camera left out of each instant.
    """
    folders = sorted([*list_samples(dataset, "train"), *list_samples(dataset, "val")])[first:]
    chosen = [folders[k * len(folders) // instants] for k in range(min(instants, len(folders)))]
    shipped_models()  # loaded before the clock starts
    scores: dict[str, list[Score]] = {}
    rows = []
    for number, folder in enumerate(chosen):
        sample = read_sample(folder)
        count = len(sample.views.cameras)
        for turn in range(cameras):
            view = (number + turn * count // cameras) % count
            given = [i for i in range(count) if i != view]
            made = {way: _timed(way_of) for way, way_of in _ways(sample, given, fit, fits_only)}
            compared = compare_left_out(sample, given, {way: scene for way, (scene, _) in made.items()})
            if compared is None:
                continue  # the animal is not in this camera's picture
            for way, figures in compared.figures.items():
                scene, seconds = made.get(way, (None, None))
                scores.setdefault(way, []).append(
                    Score(
                        instant=number,
                        psnr_fg=float(figures["psnr_fg"]),
                        iou=float(figures["iou_alpha"]),
                        seconds=seconds,
                        count=None if scene is None else len(scene),
                    )
                )
            if turn == 0:
                shown = {way: float(figures["psnr_fg"]) for way, figures in compared.figures.items()}
                truth = (f"{folder.name}, camera {compared.truth.cameras.names[0]}", compared.truth.images[0])
                rows.append([truth, *((f"{w}: {db:.1f} dB", compared.pictures[w][0]) for w, db in shown.items())])
    sys.stdout.write(
        f"{dataset.name}: {len(chosen)} instants x {cameras} cameras left out; {fit.steps} steps, weights of opacity "
        f"{fit.opacity_weight:g} and scale {fit.scale_weight:g}, pruned every {fit.prune_every} steps; "
        f"{platform.machine()}, {torch.get_num_threads()} threads\n\n" + _table(scores)
    )
    if pictures is not None:
        contact_sheet(rows, pictures)


def _ways(
    sample: Sample, given: list[int], fit: OptimiseConfig, fits_only: bool
) -> list[tuple[str, Callable[[], Gaussians]]]:
    def fitted(init: str) -> Callable[[], Gaussians]:
        return lambda: optimise_sample(sample, given, config=replace(fit, init=init)).gaussians

    def network(refine_steps: int) -> Callable[[], Gaussians]:
        config = ReconstructConfig(refine_steps=refine_steps, device=fit.device)
        return lambda: reconstruct_sample(sample, given, config=config).gaussians

    networks = [("GS-LRM alone", network(0)), ("reconstruct", network(ReconstructConfig().refine_steps))]
    fits = [("refine from hull", fitted("hull")), ("refine from gslrm", fitted("gslrm"))]
    return fits if fits_only else networks + fits


def _timed(make: Callable[[], Gaussians]) -> tuple[Gaussians, float]:
    started = time.perf_counter()
    return make(), time.perf_counter() - started


def _table(scores: dict[str, list[Score]]) -> str:
    lines = ["| way | psnr_fg | worst to best | IoU | seconds | Gaussians |", "|---|---|---|---|---|---|"]
    for way, mine in scores.items():
        means = [
            [statistics.mean(getattr(s, name) for s in mine if s.instant == instant) for name in ("psnr_fg", "iou")]
            for instant in sorted({s.instant for s in mine})
        ]
        (psnr, iou), spread = torch.tensor(means).mean(0).tolist(), torch.tensor(means).std(0).tolist()
        values = [s.psnr_fg for s in mine]
        seconds = [s.seconds for s in mine if s.seconds is not None]
        counts = [s.count for s in mine if s.count is not None]
        lines.append(
            f"| {way} | {psnr:.2f} +- {spread[0]:.2f} | {min(values):.1f} to {max(values):.1f} "
            f"| {iou:.3f} +- {spread[1]:.3f} "
            f"| {f'{statistics.median(seconds):.1f}' if seconds else ''} "
            f"| {f'{statistics.median(counts):.0f}' if counts else ''} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(benchmark_refine)
