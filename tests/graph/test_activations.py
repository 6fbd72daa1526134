"""Which tensors of a forward pass hold the activations of which neurons."""

import pytest
import torch
from torch import nn

from ngopt.graph.activations import ActivationMode, node_activations
from ngopt.graph.nodes import nodes_of
from ngopt.graph.trace import trace
from tests.hand_built import EXAMPLES


def watched(model, inputs):
    """Activations by neuron, by the spaces of their set, of one more forward pass."""
    described = trace(model, inputs)
    nodes = nodes_of(described)
    found_graph, found = node_activations(model, inputs, nodes)
    assert found_graph == described
    made = {-1: inputs}
    with ActivationMode(lambda call, func, out: made.__setitem__(call, out)):
        model(inputs)
    return {
        nodes.sets[n].spaces: place.by_neuron(described, made[place.call]).detach()
        for n, place in found.items()
    }


def test_of_an_mlp():
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(6, 3)
    found = watched(model, x)
    assert found.keys() == {("p0",), ("h0",), ("h1",), ("p1",)}
    for spaces, layers in ((("p0",), 0), (("h0",), 2), (("h1",), 4), (("p1",), 5)):
        assert torch.equal(found[spaces], model[:layers](x))


def test_of_a_residual_convnet_with_groups():
    model, _, x = EXAMPLES["residual_convnet"]()
    kept = {}
    model.norm.register_forward_hook(lambda *a: kept.__setitem__("inner", a[-1].relu()))
    model.head.register_forward_pre_hook(lambda _, a: kept.__setitem__("stream", a[0]))
    found = watched(model, x)
    inner = next(value for spaces, value in found.items() if value.shape[1] == 12)
    stream = next(value for spaces, value in found.items() if value.shape[1] == 8)
    assert torch.allclose(inner, kept["inner"].mean((2, 3)))
    assert torch.allclose(stream, kept["stream"])


def test_of_channels_that_come_last_and_of_flattened_places():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv1d(2, 5, 3), nn.Linear(20, 3)

        def forward(self, x):
            x = self.conv(x).transpose(1, 2).tanh()
            return self.head(x.flatten(1))

    model, x = Net(), torch.randn(4, 2, 6)
    (hidden,) = (value for value in watched(model, x).values() if value.shape[1] == 5)
    assert torch.allclose(hidden, model.conv(x).tanh().mean(2), atol=1e-6)


@pytest.mark.parametrize("examples", [1, 3])
def test_one_example_is_enough(examples):
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(examples, 3)
    assert torch.equal(watched(model, x)[("h0",)], model[:2](x))


def test_the_model_is_left_as_it_was():
    model, _, x = EXAMPLES["residual_convnet"]()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    node_activations(model, x, nodes_of(trace(model, x)))
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
