import pytest
import torch
from torch import nn
from torch.nn import functional

from ngopt.graph.plain_data import from_plain, to_plain
from ngopt.graph.space import ACTIVATIONS, activation_of
from ngopt.graph.trace import trace


class Net(nn.Module):
    """Two layers around an activation."""

    def __init__(self, activation):
        super().__init__()
        self.one, self.two, self.activation = nn.Linear(3, 5), nn.Linear(5, 2), activation

    def forward(self, x):
        return self.two(self.activation(self.one(x)))


FUNCTIONS = {
    "relu": [nn.ReLU(), nn.ReLU(inplace=True), functional.relu, torch.relu, lambda x: x.relu_()],
    "gelu": [nn.GELU(), nn.GELU("tanh")],
    "silu": [nn.SiLU()],
    "tanh": [nn.Tanh(), torch.tanh, lambda x: x.tanh()],
    "sigmoid": [nn.Sigmoid(), torch.sigmoid],
    "leaky_relu": [nn.LeakyReLU(0.2)],
    "sin": [torch.sin, lambda x: torch.sin(30 * x)],
    "elu": [nn.ELU()],
    "softplus": [nn.Softplus()],
    "other": [nn.Mish(), nn.PReLU(5), nn.Hardswish()],
    "none": [nn.Identity(), nn.Dropout(0.5), lambda x: 2 * x],
    "sigmoid tanh": [lambda x: x.tanh() * x.sigmoid()],
}


def activations(model, *inputs):
    graph = trace(model, *inputs)
    return {
        name: graph.spaces[graph.layout(name).bundles[0].out_neurons[0]].activation
        for name in graph.parameters
    }


@pytest.mark.parametrize(
    ("name", "function"), [(name, f) for name, many in FUNCTIONS.items() for f in many]
)
def test_each_is_found_at_the_neurons_that_it_is_applied_to(name, function):
    found = activations(Net(function), torch.randn(4, 3))
    assert (found["one.weight"], found["two.weight"]) == (name, "none")


def test_the_table_of_the_test_is_complete():
    assert set(ACTIVATIONS) == {word for name in FUNCTIONS for word in name.split()}


def test_each_layer_has_its_own():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6, 2), nn.Tanh()
    )
    found = activations(model, torch.randn(2, 3, 5, 5))
    assert [found[f"{n}.weight"] for n in (0, 2, 4)] == ["gelu", "none", "tanh"]


def test_recurrent_layers():
    for module, expected in [
        (nn.LSTM(3, 4, 2), "tanh"),
        (nn.GRU(3, 4), "tanh"),
        (nn.RNN(3, 4, nonlinearity="relu"), "relu"),
    ]:
        assert set(activations(module, torch.randn(5, 2, 3)).values()) == {expected}


def test_a_function_of_a_weight_is_not_applied_to_neurons():
    class Gated(nn.Linear):
        def forward(self, x):
            return functional.linear(x, self.weight.tanh(), self.bias)

    model = nn.Sequential(Gated(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert activations(model, torch.randn(2, 3))["0.weight"] == "relu"


def test_it_is_stored_but_does_not_tell_graphs_apart():
    relu, tanh = (trace(Net(f), torch.randn(4, 3)) for f in (nn.ReLU(), nn.Tanh()))
    assert relu == tanh
    back = from_plain(to_plain(relu))
    assert [s.activation for s in back.spaces.values()] == [
        s.activation for s in relu.spaces.values()
    ]


def test_graphs_stored_before_there_were_activations_are_read():
    graph = trace(Net(nn.ReLU()), torch.randn(4, 3))
    data = to_plain(graph)
    for space in data["spaces"]:
        del space["activation"]
    assert from_plain(data) == graph
    assert {space.activation for space in from_plain(data).spaces.values()} == {""}


def test_operations_that_move_entries_are_no_activations():
    assert not any(map(activation_of, ["add", "reshape", "dropout", "linear", "softmax"]))
