"""Compiled loops do what operations of torch do, on the zoo and in every layout of memory."""

import pytest
import torch

from ngopt.fused.switch import plain
from ngopt.rules import alike, matrix_gnn
from ngopt.rules.matrix_gnn import MatrixGNN
from ngopt.rules.passes import choose, fused
from ngopt.rules.passes.fused import FusedPasses, Plane
from ngopt.rules.passes.plain import PlainPasses
from tests.hand_built import graph, layout, spaces
from tests.rules.rule_inputs import (
    SOME,
    difference_to_plain,
    draw,
    randomize,
    relative_error,
    zoo_graph,
)
from tests.test_zoo import ZOO

OPTIONS = {
    "default": {},
    "graph off": {"graph_context": False},
    "float32 momenta": {"momentum_dtype": "float32"},
    "bfloat16 squares": {"square_dtype": "bfloat16"},
    "Adam's direction": {"skeleton": {"orthogonal": 0, "nesterov": 0.0}},
    "three hidden units": {"hidden": 3},
}


def trajectory(rule, described, steps, dtype=torch.float32):
    """Parameters and state after some steps along gradients that do not depend on them."""
    parameters = draw(described, 0, dtype)
    state = rule.init_state(parameters, described)
    with torch.no_grad():
        for step in range(steps):
            gradients = draw(described, step + 1, dtype)
            update, state = rule(parameters, gradients, state, described)
            parameters = {n: p - 0.01 * update[n] for n, p in parameters.items()}
    return parameters, state


def difference(rule, described, steps):
    """Largest difference to operations of torch, relative to each tensor's size."""
    return difference_to_plain(lambda: trajectory(rule, described, steps))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", SOME)
def test_as_plain(name, options):
    assert difference(randomize(MatrixGNN(**options)), zoo_graph(name), 5) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", ZOO)
def test_as_plain_over_50_steps_on_the_zoo(name):
    assert difference(randomize(MatrixGNN()), zoo_graph(name), 50) < 1e-5


def chosen(monkeypatch):
    """List that the kinds of passes are noted in."""
    found = []

    def note(*args, **kwargs):
        found.append(choose.passes_of(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr("ngopt.rules.matrix_gnn.passes_of", note)
    return found


def test_most_of_a_residual_net_is_fused(monkeypatch):
    found = chosen(monkeypatch)
    monkeypatch.setattr(alike, "SMALL", 0)  # small ones that are joined are not
    trajectory(MatrixGNN(), zoo_graph("resnet"), 1)
    assert all(isinstance(passes, FusedPasses) for passes in found)


def test_double_precision_and_derivatives_are_not(monkeypatch):
    found, described = chosen(monkeypatch), zoo_graph("resnet")
    trajectory(MatrixGNN(), described, 1, torch.float64)
    rule, parameters = MatrixGNN(), draw(described, 0, torch.float32)
    rule(parameters, parameters, rule.init_state(parameters, described), described)
    assert found
    assert all(isinstance(passes, PlainPasses) for passes in found)


def test_watching_tells_the_same():
    described, rule = zoo_graph("conv_flatten"), randomize(MatrixGNN())
    told = []
    rule.observer = lambda *args: told.append(args)
    trajectory(rule, described, 2)
    fused, told[:] = list(told), []
    with plain():
        trajectory(rule, described, 2)
    assert len(fused) == len(told) > 0
    for (name, _, *here), (expected, _, *there) in zip(fused, told, strict=True):
        assert name == expected
        torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)


S = spaces(x=6, h=5)
LAYOUTS = {
    "linear": (["h", "x"], "oi", False),
    "transposed": (["x", "h"], "io", True),
    "convolution": (["h", "x", 3, 2], "oitt", False),
    "bias": (["h"], "o", True),
    "one input": (["h", 1], "oi", True),
    "one output": ([1, "x"], "oi", False),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_memory(name, monkeypatch):
    factors, roles, turned = LAYOUTS[name]
    described = graph(S, [layout(S, "w", factors, roles)])
    found = chosen(monkeypatch)
    assert difference(randomize(MatrixGNN()), described, 3) < 1e-5
    assert isinstance(found[0], FusedPasses)
    assert found[0]._plane.turned == turned


@pytest.mark.parametrize(("taps", "times"), [([1], 1), ([2, 3], 2), ([3, 3], 1)], ids=str)
def test_sums_over_many_taps_are_kept(taps, times, monkeypatch):
    described = graph(S, [layout(S, "w", ["h", "x", *taps], "oi" + "t" * len(taps))])
    monkeypatch.setattr(matrix_gnn, "KEPT", 0)
    counted, carry = [], fused.carry
    monkeypatch.setattr(fused, "carry", lambda dtypes: (counted.append(1), carry(dtypes))[1])
    trajectory(randomize(MatrixGNN()), described, 1)
    # Once for the messages, and once before for their size, unless it is known without them.
    assert len(counted) == times


def test_memory_in_another_order_is_left_to_torch():
    strided = torch.randn(1, 6, 4, 1)[:, ::2]
    taps_first = torch.randn(1, 3, 6, 4).permute(0, 2, 3, 1)
    groups = torch.randn(2, 3, 4, 1)
    empty = torch.randn(1, 0, 4, 1)
    for array in (strided, taps_first, groups, empty):
        assert Plane.of([array]) is None
    straight = torch.randn(1, 6, 4, 1)
    assert Plane.of([straight, straight.transpose(1, 2).contiguous().transpose(1, 2)]) is None


def test_no_compiler_is_no_error(monkeypatch):
    from ngopt.fused import switch
    from ngopt.fused.build import NoCompilerError

    def refuse(*args):
        raise NoCompilerError("none is installed")

    monkeypatch.setattr(switch, "_off", False)
    monkeypatch.setattr(choose, "ready", refuse)
    described = zoo_graph("conv_flatten")
    with pytest.warns(UserWarning, match="none is installed"):
        here, _ = trajectory(MatrixGNN(), described, 2)
    with plain():
        there, _ = trajectory(MatrixGNN(), described, 2)
    assert relative_error(here, there) == 0
