"""The generator's task: which views are wanted, when the picture is left out, and learning from a teacher."""

from pathlib import Path

import pytest
import torch
from blobs import write_blobs

from mouselift.config import from_dict
from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import Sample
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Views
from mouselift.models.checkpoint_io import save_weights
from mouselift.models.generator import Generator, GeneratorConfig
from mouselift.train.generator_task import Distillation, GeneratorTask, GeneratorTaskConfig

TINY = {"patch_size_px": 8, "width": 32, "head_dim": 16, "num_layers": 1}


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Sample]:
    data = MouseDataset(write_blobs(tmp_path_factory.mktemp("blobs")), "train")
    return [data[0], data[1]]


def make(task: GeneratorTaskConfig | None = None, **model: float) -> GeneratorTask:
    torch.manual_seed(0)
    return GeneratorTask(GeneratorConfig(**TINY, **model), task or GeneratorTaskConfig(), bf16=False)


def weights(path: Path, **model: float) -> str:
    torch.manual_seed(1)
    config = GeneratorConfig(**TINY, **model)
    save_weights(Generator(config), path, {"model": {"head_dim": 16, **model}})
    return str(path)


def names_of(cameras: Cameras, sample: Sample) -> list[str]:
    """Which of a sample's cameras these are; batches have no names."""
    theirs, centres = sample.views.cameras, cameras.centres.reshape(-1, 1, 3)
    return [theirs.names[k] for k in (theirs.centres - centres).norm(dim=-1).argmin(1).tolist()]


def wanted_names(its: GeneratorTask, sample: Sample, draws: int = 60) -> set[str]:
    dice = torch.Generator().manual_seed(0)
    return {name for _ in range(draws) for name in names_of(its._drawn([sample], dice)[1].cameras, sample)}


def test_wanted_views_are_the_rigs_unless_any_will_do(samples: list[Sample]) -> None:
    assert all(name.startswith("ring_") for name in wanted_names(make(), samples[0]))
    config = GeneratorTaskConfig(any_target_share=0.5)
    assert wanted_names(make(config), samples[0]) == set(samples[0].views.cameras.names)


def test_the_input_is_never_among_views_from_any_side(samples: list[Sample]) -> None:
    its = make(GeneratorTaskConfig(any_target_share=1.0, num_targets=99))
    dice = torch.Generator().manual_seed(0)
    for _ in range(10):
        given, wanted = (names_of(views.cameras, samples[0]) for views in its._drawn(samples[:1], dice))
        assert len(wanted) == len(samples[0].views.cameras) - 1
        assert not set(given) & set(wanted)


def test_pictures_are_left_out_at_the_configured_rate(samples: list[Sample], monkeypatch) -> None:
    its = make(condition_dropout=0.4)
    known: list[float] = []
    forward = its.model.forward

    def noted(*args, **options):
        known.extend(options["known"].tolist())
        return forward(*args, **options)

    monkeypatch.setattr(its.model, "forward", noted)
    dice = torch.Generator().manual_seed(0)
    for _ in range(60):
        its.loss(samples, dice)
    assert sum(known) / len(known) == pytest.approx(0.6, abs=0.12)


def test_a_perfect_student_has_no_loss(samples: list[Sample], tmp_path: Path) -> None:
    """Where teacher and student take the same number of steps, the teacher's own weights are the answer."""
    teacher = weights(tmp_path / "teacher.safetensors")
    its = make(GeneratorTaskConfig(distil=Distillation(teacher=teacher, teacher_steps=4, student_steps=4)))
    assert its.teacher is not None
    its.model.load_state_dict(its.teacher.state_dict())
    for seed in range(4):
        loss, _ = its.loss(samples, torch.Generator().manual_seed(seed))
        assert float(loss.detach()) < 1e-8


def test_a_student_in_training_comes_nearer_to_its_teacher(samples: list[Sample], tmp_path: Path) -> None:
    teacher = weights(tmp_path / "teacher.safetensors")
    its = make(GeneratorTaskConfig(distil=Distillation(teacher=teacher, teacher_steps=8, student_steps=2)))
    optimizer = torch.optim.Adam(its.model.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss, _ = its.loss(samples, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert its.teacher is not None
    assert all(p.grad is None for p in its.teacher.parameters())


def test_students_steps_must_divide_the_teachers() -> None:
    values = {"distil": {"teacher": "t.safetensors", "teacher_steps": 16, "student_steps": 3}}
    with pytest.raises(InputError, match="divide"):
        from_dict(GeneratorTaskConfig, values, "the configuration")


def test_guidance_takes_a_teacher_that_was_trained_for_it(tmp_path: Path) -> None:
    blind = Distillation(teacher=weights(tmp_path / "a.safetensors"), guidance=2.0)
    with pytest.raises(InputError, match=r"a\.safetensors: expected a teacher that was trained for guidance"):
        make(GeneratorTaskConfig(distil=blind))
    able = Distillation(teacher=weights(tmp_path / "b.safetensors", condition_dropout=0.1), guidance=2.0)
    assert make(GeneratorTaskConfig(distil=able)).teacher is not None


def test_validation_takes_the_students_steps(samples: list[Sample], tmp_path: Path, monkeypatch) -> None:
    teacher = weights(tmp_path / "teacher.safetensors")
    steps: list[int] = []
    generate = Generator.generate

    def noted(self: Generator, *args, **options) -> Views:
        steps.append(options["steps"])
        return generate(self, *args, **options)

    monkeypatch.setattr(Generator, "generate", noted)
    for config in (GeneratorTaskConfig(), GeneratorTaskConfig(distil=Distillation(teacher=teacher))):
        its = make(config)
        its.validate(its.model, samples[:1])
    assert steps == [1, 4]


@pytest.mark.parametrize(
    "values",
    [
        {"any_target_share": 25.0},
        {"free_input_share": -0.1},
        {"num_targets": 0},
        {"distil": {"teacher": "t", "teacher_steps": 0, "student_steps": 4}},
    ],
)
def test_values_out_of_range_are_refused(values: dict) -> None:
    with pytest.raises(InputError, match="expected"):
        from_dict(GeneratorTaskConfig, values, "the configuration")


def test_a_student_without_pictures_has_no_teacher(tmp_path: Path) -> None:
    distil = Distillation(teacher=weights(tmp_path / "teacher.safetensors"))
    with pytest.raises(InputError, match="student without condition_dropout"):
        make(GeneratorTaskConfig(distil=distil), condition_dropout=0.1)
