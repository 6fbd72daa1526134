import dataclasses

import pytest
import torch
from torch import nn

from ngopt import trace
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
    lines = summary(graph, full=True).splitlines()
    firsts = [line.split()[0] for line in lines if line.strip()]
    for name in (*graph.spaces, *graph.layouts):
        assert firsts.count(name) == 1, name


def test_parts_of_a_tensor_have_a_line_each():
    text = summary(EXAMPLES["attention_block"]()[1])
    assert text.count("out=heads(4)*qk(2) in=model(8)\n") == 2
    assert text.count("out=heads(4)*v(3) in=model(8)\n") == 1


def test_nesting_buffers_and_ties_are_told():
    attention, convnet = (
        summary(EXAMPLES[n]()[1], full=True) for n in ("attention_block", "residual_convnet")
    )
    assert "qk        2  hidden                       heads      qkv.weight, qkv.bias" in attention
    assert "norm.weight, norm.bias and 6 more" in attention
    assert "head.weight is tied to embedding.weight" in attention
    assert "9 parameters with 1,291 entries, 2 state buffers; " in convnet
    assert "normalization, buffer" in convnet


def test_tensors_of_a_norm_share_a_line():
    text = summary(EXAMPLES["residual_convnet"]()[1])
    assert "norm.weight, bias, running_mean, running_var  12 " in text
    assert "norm.running_mean" not in text


def test_repeated_blocks_are_shown_once_with_their_number():
    described = trace(nn.Sequential(*[nn.Linear(4, 4) for _ in range(7)]), torch.ones(1, 4))
    lines = summary(described).splitlines()
    assert lines[0] == "14 parameters with 140 entries; 6 hidden and 2 pinned spaces"
    rows = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert rows["1.weight"][1:6] == ["x", "5", "4", "x", "4"]
    assert rows["6.weight"][1:4] == ["4", "x", "4"]
    assert "3.weight" not in rows
    assert "1 to 5, x 5: alike, so the first stands for all" in lines
    assert "3.weight" in summary(described, full=True)


def test_the_summary_of_a_transformer_fits_a_screen():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 12)
    described = trace(model, torch.randn(1, 3, 8))
    assert len(summary(described).splitlines()) < 40
    assert len(summary(described, full=True).splitlines()) > 150


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
