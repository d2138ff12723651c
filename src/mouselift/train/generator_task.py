"""The task of the multi-view generator: one view to the six rig views around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mouselift.data.augment import photometric_jitter
from mouselift.data.layout import Sample
from mouselift.data.selection import facelift_subset, random_subset, split_rig_and_free
from mouselift.geometry import Views
from mouselift.losses import l2
from mouselift.metrics import iou_alpha, psnr_fg
from mouselift.models.generator import Generator, GeneratorConfig, encode_pixels, flow_matching_loss
from mouselift.train.panels import below_each_other, strip


@dataclass(frozen=True, kw_only=True)
class GeneratorTaskConfig:
    """What the generator learns from."""

    num_targets: int = 3
    """Wanted views per training example, of the six; attention makes them consistent."""
    pure_noise_share: float = 0.75
    """Share of the examples at time 0, on which one-step generation depends."""
    time_mean: float = -1.2
    time_std: float = 0.8
    """Of the logit of the time of the other examples (logit-normal)."""
    free_input_share: float = 0.65
    """Share of the inputs that are free photographs, where there are any; the others are rig views."""


class GeneratorTask:
    """One view to the six rig views around it."""

    better = "psnr_fg"

    def __init__(self, model: GeneratorConfig, task: GeneratorTaskConfig, *, bf16: bool) -> None:
        self.model = Generator(model)
        self.config = task
        self.bf16 = bf16

    def loss(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Flow-matching loss of a random subset of the wanted views."""
        inputs, targets = [], []
        for sample in samples:
            on_rig, free = split_rig_and_free(sample.views)
            use_free = bool(free) and bool(torch.rand((), generator=generator) < self.config.free_input_share)
            chosen = random_subset(free if use_free else on_rig, 1, generator)
            rig = facelift_subset(sample.views.cameras, on_rig, chosen[0])
            inputs.append(photometric_jitter(sample.views[chosen], generator))
            targets.append(sample.views[random_subset(rig, self.config.num_targets, generator)])
        device = next(self.model.parameters()).device
        condition, target = Views.stack(inputs).to(device), Views.stack(targets).to(device)
        time = torch.sigmoid(
            self.config.time_mean + self.config.time_std * torch.randn(len(samples), generator=generator)
        )
        pure = torch.rand(len(samples), generator=generator) < self.config.pure_noise_share
        time = torch.where(pure, 0.0, time).to(device)
        clean = encode_pixels(target)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        at = time.view(-1, 1, 1, 1, 1)
        predicted = self.model(at * clean + (1 - at) * noise, time, condition, target.cameras, bf16=self.bf16)
        loss = flow_matching_loss(predicted, clean, time).mean()
        return loss, {"l2": float(l2(predicted.detach(), clean))}

    def validate(self, model: Generator, samples: Sequence[Sample]) -> tuple[dict[str, float], Tensor]:
        """The six rig views of held-out mice, made in one step from a free photograph (or a rig view)."""
        scores: dict[str, list[Tensor]] = {"psnr_fg": [], "iou_alpha": []}
        rows = []
        for number, sample in enumerate(samples):
            on_rig, free = split_rig_and_free(sample.views)
            chosen = (free or on_rig)[0]
            truth = sample.views[facelift_subset(sample.views.cameras, on_rig, chosen)]
            condition = sample.views[[chosen]]
            made = model.generate(
                condition.reshape(1, 1),
                truth.cameras.reshape(1, len(truth.cameras)),
                steps=1,
                generator=torch.Generator().manual_seed(number),
                bf16=self.bf16,
            )[0]
            white = torch.ones(3)
            scores["psnr_fg"].append(psnr_fg(made.over(white).images, truth.over(white).images, truth.masks))
            scores["iou_alpha"].append(iou_alpha(made.masks, truth.masks))
            shown = condition.over(white).images
            rows.append(
                strip(torch.cat([shown, truth.over(white).images]), torch.cat([shown, made.over(white).images]))
            )
        return {name: float(torch.cat(values).nanmean()) for name, values in scores.items()}, below_each_other(rows)
