"""How the pose of a body is chosen from one picture: what each step of `mouselift.fit` is worth.

    python benchmarks/fit.py --dataset datasets/synthetic --mice 14

Simulated mice of the validation split, two photographs each, the camera's elevation known. For each way: the IoU of
the posed body's silhouette from four other cameras, and the error of the 22 keypoints about the root of the tail at the
true size. Means, with the standard error over photographs.
"""

from pathlib import Path

import torch
import tyro
from torch import Tensor

from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import Sample
from mouselift.fit import (
    AVERAGED,
    HYPOTHESES,
    SAMPLER_STEPS,
    _follow_silhouette,
    _silhouette_ious,
    _silhouettes,
    picture_camera,
)
from mouselift.geometry import Views
from mouselift.geometry.picture_frame import to_picture_frame
from mouselift.models.bundled import weights_path
from mouselift.models.checkpoint_io import load_pose_estimator
from mouselift.models.pose_estimator import PoseEstimator
from mouselift.train.pose_task import keypoint_errors_mm, pose_code

SIZE_PX = 64
PHOTOGRAPHS = ("framed_0", "framed_2")
OTHERS = ("ring_0", "ring_2", "ring_4", "ring_6")


def benchmark_fit(dataset: Path, mice: int = 14, weights: Path | None = None) -> None:
    """Print the table.

    Args:
        dataset: Made by `mouselift synth`.
        mice: How many of its validation split.
        weights: Of the pose estimator; the shipped ones by default.
    """
    estimator = load_pose_estimator(weights or weights_path("pose"))
    found: dict[str, list[tuple[float, float]]] = {}
    held_out = MouseDataset(dataset, "val", mice)
    for number in range(len(held_out)):
        sample = held_out[number]
        for name in PHOTOGRAPHS:
            view = sample.views[[sample.views.cameras.names.index(name)]]
            truth, keypoints = pose_code(sample, view)
            for way, code in ways(view, estimator, number, truth).items():
                error = float(keypoint_errors_mm(code, truth, keypoints).mean())
                found.setdefault(way, []).append((silhouette_elsewhere(code, sample, view), error))
    print(f"{'way':44} {'IoU elsewhere':>16} {'keypoints, mm':>16}")
    for way, values in found.items():
        table = torch.tensor(values)
        mean, error = table.mean(0), table.std(0) / len(table) ** 0.5
        print(f"{way:44} {mean[0]:8.3f} +- {error[0]:.3f} {mean[1]:8.1f} +- {error[1]:.1f}")


def ways(view: Views, estimator: PoseEstimator, seed: int, truth: Tensor) -> dict[str, Tensor]:
    """Codes of one photograph, by how they were chosen."""
    camera = picture_camera(view.cameras)
    up = to_picture_frame(view.cameras).rotation[:, 2]
    dice = torch.Generator().manual_seed(seed)
    mean = estimator.sample(view, 1, steps=1, generator=dice)
    free = estimator.sample(view, HYPOTHESES, steps=SAMPLER_STEPS, generator=dice)
    held = estimator.sample(view, HYPOTHESES, steps=SAMPLER_STEPS, generator=dice, up=up)
    with torch.no_grad():
        agreement = _silhouette_ious(held, view, camera, SIZE_PX)
    best = held[agreement.topk(AVERAGED).indices].mean(0, keepdim=True)

    def followed(code: Tensor, steps: int) -> Tensor:
        return _follow_silhouette(code, view, camera, estimator.code_std, steps)[0]

    return {
        "one step of the flow": mean[0],
        "one sample": free[0],
        f"mean of {HYPOTHESES} samples": free.mean(0),
        "  with up held": held.mean(0),
        "  the best silhouette": held[int(agreement.argmax())],
        f"  mean of the {AVERAGED} best": best[0],
        "one step of the flow, 60 on the silhouette": followed(mean, 60),
        f"mean of the {AVERAGED} best, 30 on the silhouette": followed(best, 30),
        f"mean of the {AVERAGED} best, 60 on the silhouette": followed(best, 60),
        "the true pose": truth,
    }


def silhouette_elsewhere(code: Tensor, sample: Sample, view: Views) -> float:
    """Mean IoU of the body's silhouette with the masks of the other cameras."""
    to_picture = to_picture_frame(view.cameras)
    values = []
    for name in OTHERS:
        other = sample.views[[sample.views.cameras.names.index(name)]]
        with torch.no_grad():
            whole, _ = _silhouettes(code[None], other.cameras.transformed(to_picture), SIZE_PX)
        made, true = whole > 0.5, other.resized(SIZE_PX, SIZE_PX).masks > 0.5
        values.append(float((made & true).sum() / (made | true).sum()))
    return sum(values) / len(values)


if __name__ == "__main__":
    tyro.cli(benchmark_fit)
