"""The task of the multi-view generator: one view to the six rig views around it, or to any others."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.data.augment import photometric_jitter
from mouselift.data.layout import Sample
from mouselift.data.selection import facelift_subset, random_subset, split_rig_and_free
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Views
from mouselift.losses import l2
from mouselift.metrics import iou_alpha, psnr_fg
from mouselift.models.checkpoint_io import load_generator
from mouselift.models.generator import Generator, GeneratorConfig, encode_pixels, flow_matching_loss
from mouselift.train.panels import below_each_other, strip


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A generator that is to do in few steps what a trained one does in many (Salimans & Ho 2022, in one round)."""

    teacher: str
    """Its weights; the student's `run.initial_weights` are best the same."""
    teacher_steps: int = 16
    student_steps: int = 4
    """A divisor of the teacher's steps. With one step there is nothing to distil: at time 0 the network sees no noise,
    so that its one step is the mean of what is likely."""
    guidance: float = 1.0
    """Of the teacher; the student then needs none."""

    def __post_init__(self) -> None:
        if not 2 <= self.student_steps <= self.teacher_steps or self.teacher_steps % self.student_steps:
            raise ValueError(f"expected 2 or more student_steps that divide the {self.teacher_steps=}: {self}")


@dataclass(frozen=True, kw_only=True)
class GeneratorTaskConfig:
    """What the generator learns from."""

    num_targets: int = 3
    """Wanted views per training example; attention makes them consistent."""
    any_target_share: float = 0.0
    """Share of the examples whose wanted views are any of the sample's. In the others they are among the six that
    stand around the input."""
    pure_noise_share: float = 0.75
    """Share of the examples at time 0, on which one-step generation depends."""
    time_mean: float = -1.2
    time_std: float = 0.8
    """Of the logit of the time of the other examples (logit-normal)."""
    free_input_share: float = 0.65
    """Share of the inputs that are free photographs, where there are any; the others are rig views."""
    distil: Distillation | None = None
    """Learn from another generator's steps instead of from clean views."""

    def __post_init__(self) -> None:
        for name in ("any_target_share", "pure_noise_share", "free_input_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected {name} in [0, 1], found {getattr(self, name)}")
        if self.num_targets < 1:
            raise ValueError(f"expected at least one of num_targets, found {self.num_targets}")


class GeneratorTask:
    """One view to the six rig views around it."""

    better = "psnr_fg"

    def __init__(self, model: GeneratorConfig, task: GeneratorTaskConfig, *, bf16: bool) -> None:
        self.model = Generator(model)
        self.config = task
        self.bf16 = bf16
        self.teacher = None if task.distil is None else load_generator(task.distil.teacher).requires_grad_(False)
        if task.distil is not None and model.condition_dropout > 0:
            raise InputError("expected a student without condition_dropout: its teacher always sees the picture")
        if task.distil is not None and self.teacher is not None:
            guidable = self.teacher.config.condition_dropout > 0
            if task.distil.guidance != 1 and not guidable:
                raise InputError(
                    f"{task.distil.teacher}: expected a teacher that was trained for guidance, found one that was not"
                )

    def loss(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Flow-matching loss of a random subset of the wanted views, or the distance from the teacher's step."""
        condition, target = self._drawn(samples, generator)
        clean = encode_pixels(target)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        if self.config.distil is not None:
            noisy, time, clean = self._taught(noise, condition, target.cameras, generator)
        else:
            time = self._times(len(samples), generator).to(clean)
            noisy = torch.lerp(noise, clean, time.view(-1, 1, 1, 1, 1))
        known = None
        if (dropout := self.model.config.condition_dropout) > 0:
            known = (torch.rand(len(samples), generator=generator) >= dropout).to(clean.device)
        predicted = self.model(noisy, time, condition, target.cameras, known=known, bf16=self.bf16)
        loss = flow_matching_loss(predicted, clean, time).mean()
        return loss, {"l2": float(l2(predicted.detach(), clean))}

    def _drawn(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Views, Views]:
        """An input view (B, 1) of each sample and the views (B, V) that are wanted of it."""
        inputs, targets = [], []
        for sample in samples:
            on_rig, free = split_rig_and_free(sample.views)
            use_free = bool(free) and bool(torch.rand((), generator=generator) < self.config.free_input_share)
            chosen = random_subset(free if use_free else on_rig, 1, generator)
            wanted = facelift_subset(sample.views.cameras, on_rig, chosen[0])
            if self.config.any_target_share > 0:
                any_view = bool(torch.rand((), generator=generator) < self.config.any_target_share)
                wanted = [i for i in on_rig + free if i != chosen[0]] if any_view else wanted
            inputs.append(photometric_jitter(sample.views[chosen], generator))
            targets.append(sample.views[random_subset(wanted, self.config.num_targets, generator)])
        device = next(self.model.parameters()).device
        return Views.stack(inputs).to(device), Views.stack(targets).to(device)

    def _times(self, count: int, generator: torch.Generator) -> Float[Tensor, "b"]:
        config = self.config
        time = torch.sigmoid(config.time_mean + config.time_std * torch.randn(count, generator=generator))
        pure = torch.rand(count, generator=generator) < config.pure_noise_share
        return torch.where(pure, 0.0, time)

    def _taught(
        self, noise: Float[Tensor, "b v 4 h w"], condition: Views, wanted: Cameras, generator: torch.Generator
    ) -> tuple[Float[Tensor, "b v 4 h w"], Float[Tensor, "b"], Float[Tensor, "b v 4 h w"]]:
        """A state on the teacher's way, its time, and the clean picture that takes one student's step as far."""
        distil = self.config.distil
        assert self.teacher is not None
        assert distil is not None
        teacher = self.teacher.to(noise.device)
        k = int(torch.randint(distil.student_steps, (), generator=generator))
        now, later = k / distil.student_steps, (k + 1) / distil.student_steps
        share = distil.teacher_steps // distil.student_steps
        options = {"guidance": distil.guidance, "bf16": self.bf16}
        state = noise if k == 0 else teacher.flow(noise, condition, wanted, steps=k * share, end=now, **options)
        reached = teacher.flow(state, condition, wanted, steps=share, start=now, end=later, **options)
        clean = state + (reached - state) * ((1 - now) / (later - now))
        return state, noise.new_full((len(noise),), now), clean

    def validate(self, model: Generator, samples: Sequence[Sample]) -> tuple[dict[str, float], Tensor]:
        """The six rig views of held-out mice from a free photograph (or a rig view): in one step, or the student's."""
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
                steps=1 if self.config.distil is None else self.config.distil.student_steps,
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
