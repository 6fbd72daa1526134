"""Models at the edges of what a model is: without values, without parameters, without a batch."""

import pytest
import torch
from torch import nn

from ngopt.graph.trace import trace


def mlp(**options) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 12, **options), nn.Tanh(), nn.Linear(12, 4, **options))


def sizes(graph):
    return [space.size for space in graph.hidden]


USUAL = trace(mlp(), torch.randn(3, 5))


@pytest.mark.parametrize(
    "options",
    [{"device": "meta"}, {"dtype": torch.bfloat16}, {"dtype": torch.complex64}],
    ids=lambda options: str(*options.values()),
)
def test_devices_and_precisions_do_not_matter(options):
    assert trace(mlp(**options), torch.empty(3, 5, **options)) == USUAL


def test_the_meta_device_tells_tensors_apart():
    model = nn.Sequential(mlp(device="meta"), nn.Tanh(), nn.Linear(4, 5, device="meta"))
    model.append(mlp(device="meta"))
    model[3][0].weight = model[0][0].weight
    graph = trace(model, torch.empty(3, 5, device="meta"))
    assert graph.aliases == {"3.0.weight": "0.0.weight"}
    assert sizes(graph) == [12, 4]


@pytest.mark.parametrize("model", [nn.Identity(), nn.Sequential(), nn.Flatten()])
@pytest.mark.parametrize("verify", [False, True])
def test_models_without_parameters(model, verify):
    graph = trace(model, torch.randn(3, 5), verify=verify)
    assert (graph.spaces, graph.layouts, graph.unknown) == ({}, {}, ())
    assert graph.verified == verify


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
def test_batches_without_an_example(shape):
    assert trace(mlp(), torch.randn(shape)) == USUAL


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")
def test_layers_without_neurons():
    model = nn.Sequential(nn.Linear(5, 12), nn.Linear(12, 0), nn.Linear(0, 4))
    graph = trace(model, torch.randn(3, 5), verify=True)
    assert graph.layouts["1.weight"].bundles == ()
    assert graph.layouts["2.bias"].bundles


def test_layers_of_one_neuron_have_nothing_to_permute():
    model = nn.Sequential(nn.Linear(5, 1), nn.Tanh(), nn.Linear(1, 4))
    graph = trace(model, torch.randn(3, 5), verify=True)
    assert graph.hidden == ()
    assert graph.layouts["0.weight"].bundles[0].numel == 5


class Fourier(nn.Module):
    """Multiplies with a complex buffer, and has another that nothing uses."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 12), nn.Linear(12, 4)
        self.register_buffer("phase", torch.randn(count, dtype=torch.complex64))
        self.register_buffer("spare", torch.randn(3, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last((torch.tanh(self.first(x)) * self.phase).real)


@pytest.mark.parametrize(("count", "expected"), [(12, []), (1, [12])])
def test_complex_buffers(count, expected):
    model = Fourier(count)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    graph = trace(model, torch.randn(3, 5), verify=True)
    assert (sizes(graph), graph.unknown) == (expected, ())
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name])


class Constant(nn.Module):
    """Its output does not depend on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(4))

    def forward(self) -> torch.Tensor:
        return self.value * 2


def test_models_without_inputs():
    graph = trace(Constant(), verify=True)
    assert graph.hidden == ()
    assert graph.layouts["value"].bundles[0].numel == 4
    (space,) = graph.spaces.values()
    assert space.reason == "output of the model"
