import dataclasses

import pytest

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.summary import axes_in_words, summary
from tests.hand_built import EXAMPLES, bundle, spaces

KNOWN = spaces(g=3, o=(2, "g"), i=(4, "g"), h=5)


@pytest.mark.parametrize(
    ("factors", "roles", "words"),
    [
        (["h", "g"], "oi", "out=h(5) in=g(3)"),
        (["g", "h"], "io", "out=h(5) in=g(3)"),
        (["h"], "o", "out=h(5)"),
        (["g", "o", "i", 3, 2], "goitt", "group=g(3) out=o(2) in=i(4) tap=3*2"),
        (["g", "o", "h"], "ooi", "out=g(3)*o(2) in=h(5)"),
        ([], "", "scalar"),
    ],
)
def test_axes_are_named_by_role(factors, roles, words):
    assert axes_in_words(bundle("w", KNOWN, factors, roles)) == words


def test_mlp_in_full():
    assert summary(EXAMPLES["mlp"]()[1]) == (
        "6 parameters with 83 entries; 2 hidden and 2 pinned spaces\n"
        "80 of 83 entries (96.4 %) touch hidden neurons\n"
        "\n"
        "space  size  neurons                       nested in  parameters\n"
        "x         4  pinned (input of the model)              0.weight\n"
        "h0        6  hidden                                   0.weight, 0.bias, 2.weight\n"
        "h1        5  hidden                                   2.weight, 2.bias, 4.weight\n"
        "y         3  pinned (output of the model)             4.weight, 4.bias\n"
        "\n"
        "tensor    shape  kind    depth  axes\n"
        "0.weight  6 x 4  linear   0.00  out=h0(6) in=x(4)\n"
        "0.bias    6      linear   0.00  out=h0(6)\n"
        "2.weight  5 x 6  linear   0.50  out=h1(5) in=h0(6)\n"
        "2.bias    5      linear   0.50  out=h1(5)\n"
        "4.weight  3 x 5  linear   1.00  out=y(3) in=h1(5)\n"
        "4.bias    3      linear   1.00  out=y(3)"
    )


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_every_space_and_tensor_has_its_row(example):
    graph = example()[1]
    firsts = [line.split()[0] for line in summary(graph).splitlines() if line.strip()]
    for name in (*graph.spaces, *graph.layouts):
        assert firsts.count(name) == 1, name


def test_parts_of_a_tensor_have_a_line_each():
    text = summary(EXAMPLES["attention_block"]()[1])
    assert text.count("out=heads(4)*qk(2) in=model(8)\n") == 2
    assert text.count("out=heads(4)*v(3) in=model(8)\n") == 1


def test_nesting_buffers_and_ties_are_told():
    attention, convnet = (
        summary(EXAMPLES[n]()[1]) for n in ("attention_block", "residual_convnet")
    )
    assert "qk        2  hidden                       heads      qkv.weight, qkv.bias" in attention
    assert "norm.weight, norm.bias and 6 more" in attention
    assert "head.weight is tied to embedding.weight" in attention
    assert "9 parameters with 1,291 entries, 2 state buffers; " in convnet
    assert "normalization, buffer" in convnet


def test_verification_is_told():
    graph = EXAMPLES["mlp"]()[1]
    assert "verified" not in summary(graph)
    assert "each hidden space verified" in summary(dataclasses.replace(graph, verified=True))


def test_unknown_operations_are_named_with_the_cure():
    graph = dataclasses.replace(EXAMPLES["mlp"]()[1], unknown=("my_op at my_model.py:41",))
    text = summary(graph)
    assert "\n  my_op at my_model.py:41\n" in text
    assert text.endswith("ngopt.register_operation(function, ...)")


def test_scalars_empty_tensors_and_empty_graphs():
    lines = summary(NeuralGraph.per_tensor({"s": (), "e": (0, 2)})).splitlines()
    assert lines[0] == "2 parameters with 1 entries; 0 hidden and 2 pinned spaces"
    assert lines[-2].split() == ["s", "scalar", "other", "0.50", "scalar"]
    assert lines[-1].split() == ["e", "0", "x", "2", "other", "0.50", "empty"]
    assert "0 parameters" in summary(NeuralGraph({}, {}, {}))
