"""Layers that are compiled and computed again give what they gave."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mouselift.models.transformer import Block
from mouselift.train.layers import compile_layers, recompute_layers, repeated_layers


def model_of(change: Callable[[nn.Module], None]) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Module()
    model.layers = nn.ModuleList([Block(16, 8) for _ in range(3)])
    change(model)
    return model


def gradients(model: nn.Module) -> dict[str, Tensor]:
    tokens = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    for layer in model.layers:
        tokens = layer(tokens)
    tokens.square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def compile_and_recompute(model: nn.Module) -> None:
    compile_layers(model)
    recompute_layers(model)


@pytest.mark.parametrize("change", [recompute_layers, compile_layers, compile_and_recompute])
def test_gradients_stay_and_names_too(change, monkeypatch: pytest.MonkeyPatch, without_shape_checks) -> None:
    graphs = []

    def counting(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: real(function, backend=counting))
    torch._dynamo.reset()
    expected, found = gradients(model_of(lambda _: None)), gradients(model_of(change))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    calls = sum(node.op.startswith("call") for graph in graphs for node in graph.graph.nodes)
    assert calls > 0 if change is not recompute_layers else not graphs


def test_layers_are_found_whatever_they_are_called() -> None:
    assert len(repeated_layers(model_of(lambda _: None))) == 3
