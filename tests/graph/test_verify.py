import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from ngopt.errors import TraceError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.trace import trace
from ngopt.graph.verify import verify
from tests.hand_built import EXAMPLES, distinct, graph, layout, mlp, spaces


def exchange(described: NeuralGraph, name: str) -> NeuralGraph:
    """The graph with the two axes of a square parameter exchanged, which is wrong."""
    item = described.layouts[name]
    part = item.bundles[0]
    wrong = replace(part, factors=part.factors[::-1])
    return replace(described, layouts={**described.layouts, name: replace(item, bundles=(wrong,))})


def square() -> tuple[nn.Module, NeuralGraph, torch.Tensor]:
    layers = [nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)]
    s = spaces(x=4, h0=6, h1=6, y=3)
    layouts = [
        item
        for number, (into, out) in enumerate([("x", "h0"), ("h0", "h1"), ("h1", "y")])
        for item in (
            layout(s, f"{2 * number}.weight", [out, into], "oi"),
            layout(s, f"{2 * number}.bias", [out], "o"),
        )
    ]
    return nn.Sequential(*layers), graph(s, layouts), torch.randn(7, 4)


@pytest.mark.parametrize("make", EXAMPLES.values(), ids=EXAMPLES)
def test_a_right_graph_is_kept(make):
    model, described, x = make()
    assert verify(described, model, (x,), {}) == replace(described, verified=True)


def test_of_a_wrong_graph_the_wrong_spaces_are_pinned():
    model, described, x = square()
    assert len(verify(described, model, (x,), {}).hidden) == 2
    assert verify(exchange(described, "2.weight"), model, (x,), {}).hidden == ()


def test_the_other_spaces_of_a_wrong_graph_stay_hidden():
    model, described, x = mlp()
    split = spaces(x=4, h0=6, h1=5, alone=5, y=3)
    wrong = replace(
        described,
        spaces=split,
        layouts={**described.layouts, "2.bias": layout(split, "2.bias", ["alone"], "o")},
    )
    found = verify(wrong, model, (x,), {})
    assert [space.name for space in found.hidden] == ["h0"]
    assert found.spaces["alone"].reason == "permuting it changes the output"


def test_mistakes_show_where_the_initial_weights_hide_them():
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3))
    s = spaces(x=4, h=6, alone=6, y=3)
    layouts = [
        layout(s, "0.weight", ["h", "x"], "oi"),
        layout(s, "0.bias", ["h"], "o"),
        layout(s, "1.weight", ["alone"], "o"),
        layout(s, "1.bias", ["alone"], "o"),
        layout(s, "2.weight", ["y", "h"], "oi"),
        layout(s, "2.bias", ["y"], "o"),
    ]
    assert verify(graph(s, layouts), model, (torch.randn(7, 4),), {}).hidden == ()


class Stateful(nn.Module):
    """Writes into its input and its buffer in every mode, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("calls", torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x.mul_(1 + self.calls).add_(torch.randn(()))
        return self.last(torch.relu(self.first(x)))


def test_what_a_model_writes_does_not_reach_its_next_run():
    model, x = Stateful().double(), torch.randn(7, 4, dtype=torch.float64)
    state, before = copy.deepcopy(model.state_dict()), x.clone()
    found = verify(trace(model, x.clone()), model, (x,), {})
    assert [space.size for space in found.hidden] == [6]
    assert torch.equal(x, before)
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


def test_no_gradient_is_computed():
    model, described, x = mlp()
    x.requires_grad_()
    reached = []
    model[0].register_forward_hook(lambda module, args, out: reached.append(out.requires_grad))
    verify(described, model, (x,), {})
    assert len(reached) == 1 + len(described.hidden)
    assert not any(reached)
    assert x.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())


class Insists(nn.Module):
    """Takes one precision only, and says which it got."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype, self.seen = inner, dtype, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.dtype)
        return self.inner(x) + torch.ones(1, 2, dtype=self.dtype) @ torch.ones(2, 1, dtype=x.dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_double_precision_is_used_where_the_model_can(dtype):
    inner, described, x = square()
    prefixed = {f"inner.{name}": item for name, item in described.layouts.items()}
    described = replace(described, layouts=prefixed)
    model = Insists(inner, dtype)
    assert len(verify(described, model, (x,), {}).hidden) == 2
    assert model.seen[-1] == dtype
    wrong = exchange(described, "inner.2.weight")
    assert verify(wrong, model, (x,), {}).hidden == ()


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64], ids=str)
def test_other_precisions(dtype):
    model, described, x = square()
    model, x = model.to(dtype), x.to(dtype)
    assert len(verify(described, model, (x,), {}).hidden) == 2
    assert verify(exchange(described, "2.weight"), model, (x,), {}).hidden == ()


class Root(nn.Module):
    """Finite only where every neuron gets the sign that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.tensor([10.0, 10.0, -10.0, -10.0]))
        self.register_buffer("signs", self.raw.detach().sign())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (self.raw * self.signs).sqrt().prod()


def test_an_output_that_is_no_number_is_another_output():
    s = spaces(h=4)
    wrong = graph(s, [layout(s, "raw", ["h"], "o")])
    assert verify(wrong, Root(), (torch.randn(3),), {}).hidden == ()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_refused(bad):
    model, described, x = mlp()
    with pytest.raises(TraceError, match="output of the model is not finite"):
        verify(described, model, (x.fill_(bad),), {})


@pytest.mark.parametrize("output", [lambda y: None, lambda y: y.argmax(), lambda y: y[:0]])
def test_nothing_to_compare_is_refused(output):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            return output(self.last(torch.relu(self.first(x))))

    x = torch.randn(7, 4)
    with pytest.raises(TraceError, match=r"no number that could be compared\.\n  Trace with"):
        trace(Wrapped(), x, verify=True)
    assert trace(Wrapped(), x).hidden


def test_models_without_values_are_refused():
    model, described, x = mlp()
    with pytest.raises(TraceError, match=r"meta device, without values\.\n  Trace without"):
        verify(described, model.to("meta"), (x.to("meta"),), {})


def test_outputs_in_containers_and_keyword_inputs():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = distinct(square()[0])

        def forward(self, *, inputs):
            y = self.inner(inputs["x"])
            return {"loss": None, "logits": (y.argmax(-1), y)}

    inputs = {"x": torch.randn(7, 4), "flag": True}
    found = trace(Wrapped(), inputs=inputs, verify=True)
    assert [space.size for space in found.hidden] == [6, 6]
    wrong = exchange(found, "inner.2.weight")
    assert verify(wrong, Wrapped(), (), {"inputs": inputs}).hidden == ()
