import pytest
import torch

from ngopt.features.bundle_features import (
    HORIZONS,
    KINDS,
    STATISTICS,
    STRUCTURE,
    TENSOR_FEATURES,
    fan_in,
    fan_out,
    input_indices,
    statistics,
    step_features,
    structure,
    tensor_features,
)
from ngopt.features.bundle_statistics import BundleStatistics
from ngopt.features.entry_features import Edges
from ngopt.features.moments import Moments
from ngopt.graph.bundle import ViewStep
from ngopt.graph.neural_graph import NeuralGraph
from tests.features.random_edges import random_edges as edges
from tests.hand_built import EXAMPLES, bundle, spaces

S = spaces(x=3, h=5, y=2, c=4)


@pytest.mark.parametrize(
    ("part", "inputs", "outputs"),
    [
        (bundle("linear", S, ["h", "x"], "oi"), 3, 5),
        (bundle("convolution", S, ["h", "x", 3, 3], "oitt"), 27, 45),
        (bundle("depthwise", S, ["h", 1, 3, 3], "gitt"), 9, 9),
        (
            bundle(
                "grouped", S, ["c", "h", "x", 3], "goit", [ViewStep(0, 0, 20, (4, 5))], [0, 0, 1, 2]
            ),
            9,
            15,
        ),
        (bundle("gates", S, [4, "h", "x"], "toi", [ViewStep(0, 0, 20, (4, 5))], [0, 0, 1]), 3, 20),
        (bundle("flat", S, ["h", "c", 9], "oit", [ViewStep(1, 0, 36, (4, 9))], [0, 1, 1]), 36, 5),
        (bundle("bias", S, ["h"], "o"), 1, 5),
        (bundle("gates of a bias", S, [4, "h"], "to", [ViewStep(0, 0, 20, (4, 5))], [0, 0]), 1, 20),
    ],
    ids=lambda value: value.parameter if hasattr(value, "parameter") else "",
)  # fmt: skip
def test_fans(part, inputs, outputs):
    assert (fan_in(part), fan_out(part)) == (inputs, outputs)


@pytest.mark.parametrize(
    ("part", "count"),
    [
        (bundle("convolution", S, ["h", "x", 3, 3], "oitt"), 3),
        (bundle("flat", S, ["h", "c", 9], "oit", [ViewStep(1, 0, 36, (4, 9))], [0, 1, 1]), 36),
        (bundle("gates", S, [4, "h", "x"], "toi", [ViewStep(0, 0, 20, (4, 5))], [0, 0, 1]), 3),
        (bundle("bias", S, ["h"], "o"), 1),
    ],
    ids=lambda value: value.parameter if hasattr(value, "parameter") else "",
)
def test_input_indices_leave_kernel_taps_out(part, count):
    assert input_indices(part) == count


def test_structure():
    graph = EXAMPLES["mlp"]()[1]

    def of(name):
        layout = graph.layout(name)
        numbers = structure(graph, layout, layout.bundles[0])
        assert len(numbers) == STRUCTURE
        return numbers

    kinds = [float(kind == "linear") for kind in KINDS]
    log4, log5, log6 = torch.tensor([4.0, 5.0, 6.0]).double().log().div(10).tolist()
    assert of("0.weight") == pytest.approx([0, log4, log6, 0, 1, 0.5, 0, *kinds])
    assert of("2.weight") == pytest.approx([0.5, log6, log5, 0, 0, 0.5, 0, *kinds])
    assert of("0.bias") == pytest.approx([0, 0, log6, 0, 0, 0.25, 1, *kinds])
    assert of("4.bias")[3] == 1


def test_structure_of_a_lone_scalar():
    graph = NeuralGraph.per_tensor({"s": ()})
    layout = graph.layout("s")
    numbers = structure(graph, layout, layout.bundles[0])
    assert numbers[: -len(KINDS)] == [0.5, 0, 0, 0, 0, 0, 1]


def test_step_features_are_bounded_and_rise():
    steps = torch.tensor([1.0, 3, 30, 1e3, 1e6, 1e9])
    features = step_features(steps)
    assert features.shape == (6, len(HORIZONS))
    assert features.abs().max() <= 1
    assert (features.diff(dim=0) >= 0).all()
    torch.testing.assert_close(features[1, 0], torch.tensor(0.0))
    expected = torch.tanh(torch.log(steps[3] / torch.tensor(HORIZONS)))
    torch.testing.assert_close(features[3], expected)


def statistics_of(e):
    return statistics([BundleStatistics.of(e)])[0]


def test_statistics_are_free_of_scale():
    plain, scaled = statistics_of(edges(1)), statistics_of(edges(1, 1e4, 1e-3))
    assert plain.shape == (STATISTICS,)
    torch.testing.assert_close(plain, scaled, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(plain[0], edges(1).adam.square().mean().sqrt())
    assert plain[1:].abs().max() <= 1
    assert plain.all()


def test_statistics_are_log_ratios():
    e = edges(2, dtype=torch.float64)
    fast, slow, square = e.moments
    size = {name: x.norm() for name, x in {"g": e.gradient, "fast": fast, "slow": slow}.items()}
    size["root"] = square.sum().sqrt()
    ratios = [size[a] / size[b] for a, b in (("fast", "g"), ("slow", "fast"), ("g", "root"))]
    expected = torch.tanh(torch.stack(ratios).log() / 2)
    torch.testing.assert_close(statistics_of(e)[1:], expected, rtol=1e-6, atol=1e-9)


def test_all_together():
    parts = [edges(0), edges(1, dtype=torch.float32, shape=(1, 2, 1, 1))]
    structures = [[1.0] * STRUCTURE, [2.0] * STRUCTURE]
    features = tensor_features(
        structures, list(map(BundleStatistics.of, parts)), [torch.tensor(1.0), torch.tensor(50.0)]
    )
    assert features.shape == (2, TENSOR_FEATURES)
    torch.testing.assert_close(features[1, :STATISTICS], statistics_of(parts[1]))
    torch.testing.assert_close(
        features[1, STATISTICS : STATISTICS + len(HORIZONS)], step_features(torch.tensor(50.0))
    )
    assert features[1, -len(KINDS) :].tolist() == [2.0] * len(KINDS)


def test_zeros_are_finite():
    zeros = torch.zeros(2, 5, 3, 4)
    zero = Edges.of(zeros, zeros, Moments(zeros, zeros, zeros))
    assert not statistics_of(zero).any()
