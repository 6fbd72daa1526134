import pytest
import torch
from torch import nn
from torch.nn import functional

from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import leaves, same
from ngopt.graph.trace_modes import KernelMode, TraceMode


class Followed:
    """A recorder with a hidden activation of shape (3, 4), and the mode around it."""

    def __init__(self) -> None:
        self.recorder, self.x = TraceRecorder(), torch.randn(3, 4)
        self.recorder.put(self.x, [self.recorder.fresh(n) for n in self.x.shape])
        self.recorder.record(self.x).live = True

    def run(self, function):
        with TraceMode(self.recorder):
            return function(self.x)

    def pins(self, tensor=None):
        """Why each axis of a tensor is pinned."""
        axes = self.recorder.axes(self.x if tensor is None else tensor)
        return ["".join(sorted({atom.pin for atom in leaves(axis)})) for axis in axes]


@pytest.fixture
def followed():
    return Followed()


def test_results_are_those_of_the_operation(followed):
    out = followed.run(lambda x: functional.softmax(x @ x.T, -1))
    assert torch.equal(out, functional.softmax(followed.x @ followed.x.T, -1))
    assert followed.recorder.knows(out)


def test_nothing_is_followed_after_it_was_left(followed):
    followed.run(torch.tanh)
    out = torch.tanh(followed.x)
    assert not followed.recorder.knows(out)


def test_it_is_left_when_an_operation_fails(followed):
    with pytest.raises(RuntimeError, match="must match"):
        followed.run(lambda x: x + torch.zeros(5))
    assert not followed.recorder.knows(torch.tanh(followed.x))


def test_functions_written_in_python_are_followed_inside(followed):
    out = followed.run(lambda x: functional.gumbel_softmax(x, dim=-1))
    assert followed.recorder.unknown == {}
    assert all(map(same, followed.recorder.axes(out), followed.recorder.axes(followed.x)))
    assert followed.pins(out) == ["", ""]


def test_an_unknown_operation_is_named_with_its_place(followed):
    out = followed.run(lambda x: torch.linalg.pinv(x))
    (unknown,) = followed.recorder.unknown
    assert "pinv at " in unknown
    assert "test_trace_modes.py:" in unknown
    assert all(followed.pins())
    assert all(followed.pins(out))


@pytest.mark.parametrize(
    "read",
    [lambda x: x.tolist(), lambda x: torch.equal(x, x), lambda x: x.numpy(), torch.Tensor.data_ptr],
)
def test_what_is_read_as_numbers_is_pinned(followed, read):
    followed.run(read)
    assert all("its values are read by" in pin for pin in followed.pins())


@pytest.mark.parametrize(
    "ask", [lambda x: x.shape, lambda x: x.dtype, torch.numel, torch.is_tensor]
)
def test_what_is_asked_about_a_tensor_pins_nothing(followed, ask):
    followed.run(ask)
    assert followed.pins() == ["", ""]


def test_tensors_made_of_numbers_are_constants(followed):
    out = followed.run(lambda x: torch.tensor([1.0, 2.0, 3.0]))
    assert followed.pins(out)[0]
    assert not followed.recorder.record(out).live


def test_numpys_names_of_arguments(followed):
    out = followed.run(lambda x: x.sum(axis=1, keepdims=True))
    assert out.shape == (3, 1)
    assert same(followed.recorder.axes(out)[0], followed.recorder.axes(followed.x)[0])
    assert followed.recorder.unknown == {}


def test_results_written_into_a_tensor(followed):
    target = torch.empty(3, 4)
    followed.run(lambda x: torch.tanh(x, out=target))
    assert all(map(same, followed.recorder.axes(target), followed.recorder.axes(followed.x)))
    assert followed.recorder.record(target).live


def test_writing_in_place_keeps_the_axes(followed):
    axes = followed.recorder.axes(followed.x)
    followed.run(lambda x: x.mul_(2).add_(1))
    assert followed.recorder.axes(followed.x) == axes
    assert followed.pins() == ["", ""]


def test_writing_constants_in_place_pins(followed):
    followed.run(lambda x: x.add_(torch.tensor([1.0, 2.0, 3.0, 4.0])))
    assert followed.pins()[0] == ""
    assert followed.pins()[1]


def test_writing_at_an_index_fixes_the_places_on_that_axis(followed):
    def write(x):
        x[0] = 0.0

    followed.run(write)
    first, second = (list(leaves(axis)) for axis in followed.recorder.axes(followed.x))
    assert all(atom.pin for atom in first)
    assert [atom.pin for atom in second] == [""]


def test_layers_know_their_kind_and_place(followed):
    layers = [nn.Linear(4, 5), nn.Linear(5, 2)]
    for i, layer in enumerate(layers):
        followed.recorder.add_parameter(f"{i}", layer.weight)
        followed.recorder.add_parameter(f"{i}.bias", layer.bias)
    with torch.no_grad():
        followed.run(lambda x: layers[1](torch.relu(layers[0](x))))
    uses = followed.recorder.uses
    assert [(uses[key].kind, uses[key].depth) for key in ("0", "0.bias", "1")] == [
        ("linear", 0),
        ("linear", 0),
        ("linear", 1),
    ]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_kernels_of_scripted_functions_surface_and_pin(followed):
    scripted = torch.jit.script(doubled_tanh)
    with KernelMode():
        out = followed.run(scripted)
    assert torch.equal(out, doubled_tanh(followed.x))
    assert followed.recorder.record(out).live
    assert all(followed.pins())
    assert any(name.startswith("tanh") for name in followed.recorder.unknown)


def doubled_tanh(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x) * 2.0
