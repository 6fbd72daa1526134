import pytest
import torch
from torch import nn

from ngopt import trace
from ngopt.graph.blocks import collapse, counts
from ngopt.graph.neural_graph import NeuralGraph
from tests.hand_built import graph, layout, spaces


def stream(numbers, inner=lambda number: 16):
    """A residual stream `s` with blocks of two layers each."""
    sizes = {f"i{n}": inner(n) for n in numbers}
    s = spaces(x=4, s=8, y=3, **sizes)
    layouts = [layout(s, "first.weight", ["s", "x"], "oi")]
    for n in numbers:
        layouts += [
            layout(s, f"blocks.{n}.up.weight", [f"i{n}", "s"], "oi"),
            layout(s, f"blocks.{n}.up.bias", [f"i{n}"], "o"),
            layout(s, f"blocks.{n}.down.weight", ["s", f"i{n}"], "oi"),
            layout(s, f"blocks.{n}.down.bias", ["s"], "o"),
        ]
    return graph(s, [*layouts, layout(s, "last.weight", ["y", "s"], "oi")])


def titles(described):
    return [repeat.title for repeat in collapse(described)[1]]


def test_first_block_stands_for_all():
    smaller, (repeat,) = collapse(stream(range(12)))
    assert list(smaller.layouts) == [
        "first.weight",
        "blocks.0.up.weight",
        "blocks.0.up.bias",
        "blocks.0.down.weight",
        "blocks.0.down.bias",
        "last.weight",
    ]
    assert list(smaller.spaces) == ["x", "s", "y", "i0"]
    assert (repeat.title, repeat.prefix) == ("blocks.0 to blocks.11, x 12", "blocks.0.")
    times = counts([repeat])
    assert times["blocks.0.up.bias"] == times["i0"] == 12
    assert not {"s", "x", "first.weight"} & times.keys()


def test_runs_end_where_blocks_differ():
    described = stream(range(7), inner=lambda number: 32 if number == 3 else 16)
    assert titles(described) == ["blocks.0 to blocks.2, x 3", "blocks.4 to blocks.6, x 3"]


def test_chain_of_layers_leads_to_what_the_last_one_leads_to():
    model = nn.Sequential(*(m for n in [5, 8, 8, 8, 8, 8] for m in (nn.LazyLinear(n), nn.ReLU())))
    x = torch.randn(2, 3)
    model(x)
    described = trace(nn.Sequential(model, nn.Linear(8, 2)), x)
    smaller, (repeat,) = collapse(described)
    assert repeat.title == "0.4 to 0.10, x 4"
    (inner,) = smaller.layouts["0.4.weight"].bundles
    assert smaller.layouts["1.weight"].bundles[0].in_neurons == inner.out_neurons
    assert smaller.layouts["0.2.weight"].bundles[0].out_neurons == inner.in_neurons
    assert counts([repeat])[inner.out_neurons[0]] == 4
    assert inner.in_neurons[0] not in counts([repeat])


def test_neurons_that_others_use_too_are_not_hidden():
    s = spaces(x=4, y=3, **{f"h{n}": 4 for n in range(6)})
    chain = [layout(s, f"{n}.weight", [f"h{n + 1}", f"h{n}"], "oi") for n in range(5)]
    heads = [layout(s, f"head_{n}", ["y", f"h{n}"], "oi") for n in range(6)]
    first = layout(s, "first", ["h0", "x"], "oi")
    assert titles(graph(s, [first, *chain, heads[5]])) == ["0 to 4, x 5"]
    assert titles(graph(s, [first, *chain, *heads])) == []


def test_layers_of_recurrent_networks():
    model = nn.LSTM(3, 4, 5)
    assert titles(trace(model, torch.randn(2, 1, 3))) == ["layer 1 to layer 4, x 4"]


def test_blocks_within_blocks():
    s = spaces(x=4, s=8, y=3, **{f"i{a}{b}": 5 for a in range(2) for b in range(6)})
    layouts = [layout(s, "first", ["s", "x"], "oi"), layout(s, "last", ["y", "s"], "oi")]
    for a in range(2):
        for b in range(6):
            layouts += [
                layout(s, f"stages.{a}.{b}.up", [f"i{a}{b}", "s"], "oi"),
                layout(s, f"stages.{a}.{b}.down", ["s", f"i{a}{b}"], "oi"),
            ]
    smaller, repeats = collapse(graph(s, layouts))
    assert [r.title for r in repeats] == [
        "stages.0 to stages.1, x 2",
        "stages.0.0 to stages.0.5, x 6",
    ]
    assert counts(repeats)["stages.0.0.up"] == 12
    assert len(smaller.layouts) == 4


@pytest.mark.parametrize("numbers", [range(1), range(0)])
def test_nothing_to_repeat(numbers):
    described = stream(numbers)
    assert collapse(described) == (described, ())


def test_few_tensors_are_shown_one_by_one():
    described = trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), torch.ones(1, 4))
    assert collapse(described) == (described, ())


def test_tensors_that_are_graphs_by_themselves():
    assert titles(NeuralGraph.per_tensor({f"{n}.weight": (3, 3) for n in range(9)})) == [
        "0 to 8, x 9"
    ]
