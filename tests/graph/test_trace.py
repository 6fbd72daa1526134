import copy
import functools
import json

import pytest
import torch
from torch import nn

from ngopt.errors import TraceError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.permute import permute
from ngopt.graph.plain_data import from_plain, to_plain
from ngopt.graph.pyg import from_pyg, to_pyg
from ngopt.graph.space import Space
from ngopt.graph.trace import trace
from tests.zoo import ZOO

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")

EVERY = pytest.mark.parametrize("name", ZOO)


@functools.cache
def traced(name: str) -> NeuralGraph:
    model, args, kwargs = ZOO[name].build()
    return trace(model, *args, verify=True, **kwargs)


def words(graph: NeuralGraph) -> tuple[str, ...]:
    """The hidden spaces as the zoo writes them."""
    sizes = {space.name: str(space.size) for space in graph.spaces.values()}
    return tuple(
        sorted(" in ".join([str(s.size), *map(sizes.get, s.within)]) for s in graph.hidden)
    )


def output(model, args, kwargs):
    with torch.no_grad():
        result = model(*args, **kwargs)
    return result if isinstance(result, torch.Tensor) else result[0]


class Probe:
    """A random model, and how much its output changes with its state."""

    def __init__(self, name: str) -> None:
        self.model, self.args, self.kwargs = ZOO[name].build_random()
        self.state = {key: t.clone() for key, t in self.model.state_dict().items()}
        self.before = output(self.model, self.args, self.kwargs)

    def change(self, state: dict[str, torch.Tensor]) -> float:
        """Relative change of the output when some tensors are replaced."""
        self.model.load_state_dict({**self.state, **state})
        after = output(self.model, self.args, self.kwargs)
        return ((after - self.before).abs().max() / self.before.abs().max()).item()


def touching(graph: NeuralGraph, space: Space) -> list[str]:
    """Names of the tensors with an axis over a space."""
    return [
        name
        for name, layout in graph.layouts.items()
        if any(space.name in bundle.factors for bundle in layout.bundles)
    ]


def shift(graph: NeuralGraph, space: Space) -> dict[str, torch.Tensor]:
    """The permutation that moves every neuron of a space by one."""
    outer = [graph.spaces[name].size for name in space.within]
    return {space.name: torch.arange(space.size).roll(1).expand(*outer, space.size)}


@EVERY
def test_hidden_spaces_are_the_truth(name):
    graph = traced(name)
    assert words(graph) == ZOO[name].hidden
    assert graph.verified
    assert graph.unknown == ()
    assert not any("changes the output" in space.reason for space in graph.spaces.values())


@EVERY
def test_permuting_hidden_neurons_keeps_the_output(name):
    graph, probe = traced(name), Probe(name)
    for seed in range(2):
        assert probe.change(permute(graph, probe.state, seed)) < ZOO[name].tolerance


@EVERY
def test_permuting_one_tensor_alone_changes_the_output(name):
    graph, probe = traced(name), Probe(name)
    names, tried = {key: [] for key in graph.layouts}, set()
    for key in probe.state:
        names.get(graph.aliases.get(key, key), []).append(key)
    for tensor, keys in names.items():
        other = torch.rand_like(probe.state[tensor]) + 0.5
        if probe.change(dict.fromkeys(keys, other)) < 1e-6:
            continue  # it has no effect at all, as the bias of keys has none
        for space in (space for space in graph.hidden if tensor in touching(graph, space)):
            moved = permute(graph, {tensor: probe.state[tensor]}, shift(graph, space))
            assert probe.change(dict.fromkeys(keys, moved[tensor])) > 1e-6, (space, tensor)
            tried.add(space)
    assert tried == set(graph.hidden)


@EVERY
def test_every_parameter_has_a_layout_that_covers_it_once(name):
    graph = traced(name)
    model, _, _ = ZOO[name].build()
    named = dict(model.named_parameters(remove_duplicate=False))
    assert {*graph.parameters, *graph.aliases} == set(named)
    for parameter, tensor in named.items():
        count = torch.zeros_like(tensor)
        for bundle in graph.layout(parameter).bundles:
            bundle.unfold(count).add_(1)
        assert (count == 1).all()


@EVERY
def test_parameters_without_hidden_neurons_are_those_expected(name):
    graph = traced(name)
    hidden = {space.name for space in graph.hidden}
    spaces = {
        parameter: {space for bundle in layout.bundles for space in bundle.spaces()}
        for parameter, layout in graph.parameters.items()
    }
    pinned = sorted(parameter for parameter, found in spaces.items() if not found & hidden)
    assert tuple(pinned) == ZOO[name].pinned


@EVERY
def test_round_trip_through_torch_geometric(name):
    graph = traced(name)
    model, _, _ = ZOO[name].build()
    parameters = {key: p.detach() for key, p in model.named_parameters()}
    data = to_pyg(graph, parameters)
    assert data.num_edges == sum(p.numel() for p in parameters.values())
    back = from_pyg(graph, data)
    assert set(back) == set(parameters)
    assert all(torch.equal(back[key][0], tensor) for key, tensor in parameters.items())


@EVERY
def test_round_trip_through_plain_data(name):
    graph = traced(name)
    assert from_plain(json.loads(json.dumps(to_plain(graph)))) == graph


def fingerprint(model: nn.Module) -> dict:
    """Everything about a model that tracing must leave alone, apart from its tensors."""
    modules = dict(model.named_modules())
    return {
        "training": {key: module.training for key, module in modules.items()},
        "attributes": {key: sorted(vars(module)) for key, module in modules.items()},
        "hooks": {
            key: {attr: len(v) for attr, v in vars(module).items() if attr.endswith("_hooks")}
            for key, module in modules.items()
        },
        "gradients": {
            key: (p.grad is None, p.requires_grad, len(p._backward_hooks or ()), id(p))
            for key, p in model.named_parameters()
        },
    }


@EVERY
def test_nothing_is_left_behind(name):
    model, args, kwargs = ZOO[name].build()
    before, state = fingerprint(model), copy.deepcopy(model.state_dict())
    random, inputs = torch.get_rng_state(), copy.deepcopy((args, kwargs))
    trace(model, *args, verify=True, **kwargs)
    assert fingerprint(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    torch.testing.assert_close((args, kwargs), inputs, rtol=0, atol=0)


def test_an_unknown_operation_pins_what_passes_through_and_is_named():
    class Spectrum(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(5, 12), nn.Linear(12, 13)
            self.last = nn.Linear(13, 4)

        def forward(self, x):
            x = torch.fft.fft(torch.relu(self.first(x))).real
            return self.last(torch.relu(self.second(x)))

    graph = trace(Spectrum(), torch.randn(3, 5), verify=True)
    assert words(graph) == ("13",)
    (unknown,) = graph.unknown
    assert "fft" in unknown
    assert "test_trace.py:" in unknown


def test_only_modules_can_be_traced():
    with pytest.raises(TraceError, match=r"cannot trace function: only an nn\.Module"):
        trace(lambda x: x, torch.randn(3, 5))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"5.weight": "out in"}, r"names the parameter `5\.weight`, which the model does not have"),
        ({"0.weight": "out"}, r"gives 1 words for `0\.weight` .*shape \(12, 5\)"),
        ({"0.weight": "a _", "2.weight": "a _"}, r"`2\.weight` of size 13 'a', .* size 12 else"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes, message):
    model, args, _ = ZOO["mlp"].build()
    with pytest.raises(TraceError, match=message):
        trace(model, *args, axes=axes)


def test_axes_named_by_hand_replace_what_tracing_finds():
    model, args, _ = ZOO["mlp"].build()
    axes = {"0.weight": "neuron! _", "0.bias": "neuron!", "2.weight": "_ neuron!"}
    assert words(trace(model, *args, axes=axes, verify=True)) == ("13",)


def test_verification_pins_a_space_that_is_wrong():
    model, args, _ = ZOO["mlp"].build()
    axes = {"0.bias": "alone"}
    assert words(trace(model, *args, axes=axes)) == ("12", "12", "13")
    graph = trace(model, *args, axes=axes, verify=True)
    assert words(graph) == ("13",)
    (name,) = graph.layouts["0.bias"].bundles[0].factors
    assert "changes the output" in graph.spaces[name].reason


def test_verification_refuses_outputs_that_are_not_finite():
    model, (x,), _ = ZOO["mlp"].build()
    with pytest.raises(TraceError, match=r"not finite.*\n  Trace with inputs and weights"):
        trace(model, x / 0, verify=True)
