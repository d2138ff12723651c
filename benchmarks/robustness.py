"""What poor photographs cost: one photograph of a held-out mouse, made worse in one way at a time.

    python benchmarks/robustness.py --dataset datasets/heldout -o runs/robustness

Each mouse's first free photograph, its camera known, is reconstructed as it is and with every defect, from the body and
by the generator; all other views are compared. Means over mice, and the mean difference from the sound photograph with
its 95 % bootstrap interval, mouse by mouse. Simulated mice, simulated defects: real pictures have several at once.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from mice_log import MiceLog, hash_of
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mouselift.atomic import atomic_path
from mouselift.data.augment import without_thin_parts
from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import Sample
from mouselift.data.selection import split_rig_and_free
from mouselift.evaluate import figures_of, rendered
from mouselift.evaluate.figures import interval
from mouselift.export.picture import contact_sheet
from mouselift.geometry import Views
from mouselift.models.bundled import WEIGHT_FILES, shipped_models, weights_path
from mouselift.reconstruct import ReconstructConfig, reconstruct_sample

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # Rec. 601
BLUR_SHARE = 16  # of the picture's width: how far the animal moves during the exposure
BEDDING_SHARE = 0.2  # of the silhouette's height, from below
BESIDE_SHARE = 0.25  # of its width, from one side: a hut's edge or another animal
EDGE_SHARE = 64  # of the picture's width: by how much a mask is too small or too large
NOISE = 0.06
SHOWN_MICE = 3
METRICS = ("psnr_fg", "iou_alpha")


def _with(view: Views, images: Tensor | None = None, masks: Tensor | None = None) -> Views:
    return Views(
        images=view.images if images is None else images.clamp(0, 1),
        masks=view.masks if masks is None else masks.clamp(0, 1),
        cameras=view.cameras,
    )


def _moved(view: Views) -> Views:
    """Blurred along the rows, silhouette and all."""
    length = max(3, view.cameras.width // BLUR_SHARE) | 1
    kernel = torch.full((1, 1, 1, length), 1 / length)
    premultiplied = torch.cat([view.images * view.masks, view.masks], dim=1)
    blurred = F.conv2d(premultiplied.flatten(0, 1)[:, None], kernel, padding=(0, length // 2))
    blurred = blurred.reshape_as(premultiplied)
    return _with(view, blurred[:, :3] / blurred[:, 3:].clamp_min(1e-3), blurred[:, 3:])


def _hidden(view: Views, *, below: float = 0.0, beside: float = 0.0) -> Views:
    """Without the lowest part of the silhouette, or without one side of it."""
    rows, columns = (view.masks[0, 0] > 0.5).nonzero(as_tuple=True)
    bottom = float(rows.max()) - below * float(rows.max() - rows.min())
    right = float(columns.max()) - beside * float(columns.max() - columns.min())
    y, x = torch.arange(view.masks.shape[-2]), torch.arange(view.masks.shape[-1])
    kept = (y[:, None] <= bottom) & (x <= right)
    return _with(view, masks=view.masks * kept)


def _edge(view: Views, grow: bool) -> Views:
    """A mask that is too large, with the grey of the surroundings in it, or too small."""
    reach = max(1, view.cameras.width // EDGE_SHARE)
    masks = view.masks if grow else -view.masks
    masks = F.max_pool2d(masks, 2 * reach + 1, stride=1, padding=reach)
    if not grow:
        return _with(view, masks=-masks)
    return _with(view, view.over(torch.full((3,), 0.5)).images, masks)


def _noisy(view: Views) -> Views:
    noise = torch.randn(view.images.shape, generator=torch.Generator().manual_seed(0))
    return _with(view, view.images + NOISE * noise)


DEFECTS: dict[str, Callable[[Views], Views]] = {
    "none": lambda view: view,
    "underexposed, half the light": lambda view: _with(view, view.images.clamp_min(1e-4) * 0.73),  # 0.5 ^ (1 / 2.2)
    "overexposed, twice the light": lambda view: _with(view, view.images * 1.37),
    "infra-red grey": lambda view: _with(view, (view.images * LUMA).sum(1, keepdim=True).expand(-1, 3, -1, -1)),
    "noise of 0.06": _noisy,
    "motion blur, a sixteenth of the picture": _moved,
    "no tail in the mask": lambda view: _with(view, masks=without_thin_parts(view.masks)),
    "a fifth hidden from below (bedding)": lambda view: _hidden(view, below=BEDDING_SHARE),
    "a quarter hidden from one side": lambda view: _hidden(view, beside=BESIDE_SHARE),
    "mask too large by a 64th": lambda view: _edge(view, grow=True),
    "mask too small by a 64th": lambda view: _edge(view, grow=False),
}


def benchmark_robustness(dataset: Path, out: Path, mice: int = 16) -> None:
    """Print the table, and write it with a sheet of pictures.

    Args:
        dataset: Held-out mice, made by `mouselift synth`.
        out: Folder for mice.jsonl, robustness.md and robustness.png.
        mice: Only the first ones.
    """
    held_out = MouseDataset(dataset, "val", mice)
    used = {name: hash_of(weights_path(name)) for name in WEIGHT_FILES}
    log = MiceLog(out / "mice.jsonl", {**used, "dataset": hash_of(dataset), "defects": list(DEFECTS)}, len(held_out))
    found, rows = log.found, []
    for number in tqdm(range(len(held_out)), unit="mouse"):
        if number < len(found) and number >= SHOWN_MICE:
            continue
        figures, row = _one(held_out[number])
        if number < SHOWN_MICE:
            rows += row
        if number >= len(found):
            log.add(figures)
    contact_sheet(rows, out / "robustness.png")
    text = _table(found)
    with atomic_path(out / "robustness.md") as partial:
        partial.write_text(text)
    print(text)


def _one(sample: Sample) -> tuple[dict[str, dict[str, float]], list[list[tuple[str, Tensor]]]]:
    """Defect and way -> metric -> value; and the pictures: defective photographs above what the body made of them."""
    on_rig, free = split_rig_and_free(sample.views)
    chosen = (free or on_rig)[0]
    others = [i for i in range(len(sample.views.cameras)) if i != chosen]
    truth = sample.views[others].over(torch.ones(3))
    figures: dict[str, dict[str, float]] = {}
    given: list[tuple[str, Tensor]] = []
    made: list[tuple[str, Tensor]] = []
    for name, defect in DEFECTS.items():
        view = defect(sample.views[[chosen]])
        worse = Sample(
            views=view,
            sample_id=sample.sample_id,
            frame_index=sample.frame_index,
            scene_from_world=sample.scene_from_world,
        )
        given.append((name, view.over(torch.full((3,), 0.5)).images[0]))
        for way in ("body", "generator"):
            result = reconstruct_sample(worse, [0], config=ReconstructConfig(unseen=way), models=shipped_models())
            images, alpha = rendered(result.gaussians, truth)
            values = figures_of(images, alpha, truth)
            figures[f"{name}|{way}"] = {metric: float(values[metric].nanmean()) for metric in METRICS}
            if way == "body":
                made.append((f"{truth.cameras.names[0]}: {figures[f'{name}|body']['psnr_fg']:.1f} dB", images[0]))
    return figures, [given, made]


def _table(found: list[dict[str, dict[str, float]]]) -> str:
    ways = ("body", "generator")
    lines = [f"{len(found)} mice", "", "| defect | " + " | ".join(f"{w} {m}" for w in ways for m in METRICS) + " |"]
    lines.append("|---|" + "---|" * (len(ways) * len(METRICS)))
    for defect in DEFECTS:
        cells = []
        for way in ways:
            for metric in METRICS:
                values, sound = (
                    torch.tensor([figures[f"{name}|{way}"][metric] for figures in found]) for name in (defect, "none")
                )
                if defect == "none":
                    cells.append(f"{values.mean():.3f}")
                    continue
                difference = interval(values - sound)
                cells.append(f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]")
        lines.append(f"| {defect} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(benchmark_robustness)
