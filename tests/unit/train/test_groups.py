"""Parameter groups: patterns, freezing, rates, and patterns that match nothing."""

import pytest
import torch

from mouselift.config import load_config
from mouselift.errors import InputError
from mouselift.models.gslrm import GSLRM, GSLRMConfig
from mouselift.train.groups import ParameterGroup, compact, describe_groups, group_of, name_pattern, parameter_groups
from mouselift.train.run_config import RunConfig


def model(num_layers: int = 3) -> GSLRM:
    return GSLRM(GSLRMConfig(width=32, head_dim=16, num_layers=num_layers))


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("patch_embedder*", "patch_embedder.1.weight", True),
        ("patch_embedder*", "input_layer_norm.weight", False),
        ("embedder*", "patch_embedder.1.weight", False),
        ("transformer_layers.{16..23}*", "transformer_layers.16.attn.fc.weight", True),
        ("transformer_layers.{16..23}*", "transformer_layers.15.attn.fc.weight", False),
        ("transformer_layers.{1..2}*", "transformer_layers.12.attn.fc.weight", False),
        ("*.{norm1,norm2}.weight", "transformer_layers.0.norm2.weight", True),
        ("*.{norm1,norm2}.weight", "transformer_layers.0.norm3.weight", False),
        ("a.b", "axb", False),
        (r"re:transformer_layers\.(0|1)\..*", "transformer_layers.1.norm1.weight", True),
        (r"re:transformer_layers\.(0|1)", "transformer_layers.1.norm1.weight", False),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    assert (name_pattern(pattern).fullmatch(name) is not None) == matches


@pytest.mark.parametrize("pattern", ["re:(", "layers.{3..1}*", "layers.{a,b"])
def test_broken_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="expected"):
        ParameterGroup(match=pattern)


def test_every_parameter_is_in_one_group_with_its_rate_and_decay() -> None:
    net = model()
    groups = [ParameterGroup(match="patch_embedder*", frozen=True), ParameterGroup(match="*layers.{1..2}*", rate=3.0)]
    made = parameter_groups(net, groups, learning_rate=1e-4, weight_decay=0.05)
    place = {id(p): group for group in made for p in group["params"]}
    for name, parameter in net.named_parameters():
        if name.startswith("patch_embedder"):
            assert not parameter.requires_grad
            assert id(parameter) not in place
            continue
        group = place[id(parameter)]
        fast = name.startswith(("transformer_layers.1.", "transformer_layers.2."))
        assert group["lr"] == pytest.approx(3e-4 if fast else 1e-4)
        assert group["weight_decay"] == (0.05 if parameter.ndim >= 2 else 0.0)


def test_frozen_parameters_stay_and_fast_ones_move_further() -> None:
    torch.manual_seed(0)
    net = model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    groups = [ParameterGroup(match="patch_embedder*", frozen=True), ParameterGroup(match="*layers.2*", rate=10.0)]
    made = parameter_groups(net, groups, learning_rate=1e-4, weight_decay=0.0)
    optimizer = torch.optim.SGD(made)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    moved = {name: float((value - before[name]).abs().max()) for name, value in net.state_dict().items()}
    assert moved["patch_embedder.1.weight"] == 0
    assert moved["transformer_layers.1.attn.fc.weight"] == pytest.approx(1e-4, rel=1e-2)
    assert moved["transformer_layers.2.attn.fc.weight"] == pytest.approx(1e-3, rel=1e-2)


def test_the_first_group_that_matches_counts() -> None:
    groups = [ParameterGroup(match="*norm*", rate=2.0), ParameterGroup(match="transformer_layers*", frozen=True)]
    chosen = group_of([name for name, _ in model().named_parameters()], groups)
    assert chosen["transformer_layers.0.norm1.weight"] is groups[0]
    assert chosen["transformer_layers.0.attn.fc.weight"] is groups[1]
    assert chosen["patch_embedder.1.weight"] is None


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["deformation_layers*"], "none of gaussian_position_embeddings"),
        (["transformer_layers*", "transformer_layers.0*"], "only parameters of the groups before it"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(patterns: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        group_of([n for n, _ in model().named_parameters()], [ParameterGroup(match=p) for p in patterns])


def test_nothing_left_to_train_is_an_error() -> None:
    with pytest.raises(InputError, match="left to train"):
        parameter_groups(model(), [ParameterGroup(match="*", frozen=True)], learning_rate=1.0, weight_decay=0.0)


def test_every_parameter_is_described() -> None:
    lines = describe_groups(model(12), [])
    assert lines[0].startswith("everything else: rate x 1, ")
    assert "  transformer_layers.{0..11}.attn.fc.weight" in lines
    described = describe_groups(model(12), [ParameterGroup(match="*.{8..11}.*", rate=3.0)])
    assert described[0].startswith("*.{8..11}.*: rate x 3, ")
    assert "  transformer_layers.{8..11}.attn.fc.weight" in described
    assert "  transformer_layers.{0..7}.attn.fc.weight" in described


def test_names_with_gaps_are_told_apart() -> None:
    assert compact(["a.0.w", "a.1.w", "a.3.w", "b", "c.2.w"]) == ["a.{0..1,3}.w", "b", "c.2.w"]


def test_groups_come_from_a_configuration() -> None:
    config = load_config(RunConfig, None, ["groups=[{match: 'patch_embedder*', frozen: true}, {match: '*', rate: 2}]"])
    assert config.groups == (ParameterGroup(match="patch_embedder*", frozen=True), ParameterGroup(match="*", rate=2.0))
    with pytest.raises(InputError, match="frosen"):
        load_config(RunConfig, None, ["groups=[{match: 'patch_embedder*', frosen: true}]"])
