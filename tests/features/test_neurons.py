import pytest
import torch

from ngopt.features.entries import Edges
from ngopt.features.moments import Moments
from ngopt.features.neurons import (
    NEURON_FEATURES,
    STATISTICS,
    Ends,
    IncidentMean,
    ends,
    neuron_features,
)
from ngopt.features.survey import Survey
from ngopt.graph.permute import permute
from tests.features.random_edges import random_edges as random_edges_of
from tests.hand_built import EXAMPLES, bundle, spaces

HIDDEN, INPUT, OUTPUT = ("h",), ("x",), ("y",)


def random_edges(shape, seed=0):
    return random_edges_of(seed, shape=shape, dtype=torch.float64)


def features_of(bundles):
    return neuron_features([(side, Survey.of(edges)) for side, edges in bundles])


def layers():
    first, second = random_edges((1, 6, 3, 1), 1), random_edges((1, 2, 6, 5), 2)
    return [(Ends(HIDDEN, INPUT), first), (Ends(OUTPUT, HIDDEN), second)]


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_ends_are_sets_of_neurons(example):
    graph = example()[1]
    for part in graph.bundles:
        group, outputs, inputs, _ = part.shape
        out, into = ends(part)
        assert out == part.out_neurons
        assert graph.neurons(out) == group * outputs
        assert into == part.in_neurons
        assert graph.neurons(into) == (group * inputs if into else 1)


def test_an_end_with_a_free_dimension_has_no_neurons():
    known = spaces(h=4, x=3)
    assert ends(bundle("w", known, ["h", 2, "x"], "ooi")) == Ends((), INPUT)
    assert ends(bundle("w", known, ["h", 1, "x"], "ooi")) == Ends(HIDDEN, INPUT)


def test_incident_mean():
    mean = IncidentMean()
    mean.add(HIDDEN, torch.tensor([[1.0], [2.0]]))
    mean.add((), torch.tensor([[7.0]]))
    mean.add(HIDDEN, torch.tensor([[3.0], [0.0]]))
    mean.add(INPUT, torch.tensor([[5.0]]))
    result = mean.result()
    assert set(result) == {HIDDEN, INPUT}
    assert result[HIDDEN].tolist() == [[2.0], [1.0]]
    assert result[INPUT].tolist() == [[5.0]]


def test_statistics_of_rows_and_columns():
    (_, first), (_, second) = layers()
    result = features_of([(Ends(HIDDEN, INPUT), first), (Ends(OUTPUT, HIDDEN), second)])
    assert {k: v.shape for k, v in result.items()} == {
        HIDDEN: (6, NEURON_FEATURES),
        INPUT: (3, NEURON_FEATURES),
        OUTPUT: (2, NEURON_FEATURES),
    }
    row, column = first.gradient[0, 4], second.gradient[0, :, 4]
    for side, part, whole in ((0, row, first.gradient), (STATISTICS, column, second.gradient)):
        ratio = (part.square().mean() / whole.square().mean()).sqrt()
        torch.testing.assert_close(result[HIDDEN][4, side + 1], (ratio.log() / 2).tanh())
    cosine = torch.cosine_similarity(row.flatten(), first.moments.fast[0, 4].flatten(), dim=0)
    torch.testing.assert_close(result[HIDDEN][4, 3], cosine)
    assert not result[INPUT][:, :STATISTICS].any()
    assert not result[OUTPUT][:, STATISTICS:].any()


def test_order_of_bundles_does_not_matter():
    bundles = [*layers(), (Ends(HIDDEN, ()), random_edges((1, 6, 1, 1)))]
    forward, backward = features_of(bundles), features_of(bundles[::-1])
    for neurons, features in forward.items():
        torch.testing.assert_close(features, backward[neurons], rtol=1e-12, atol=1e-12)
    assert not torch.equal(forward[HIDDEN], features_of(bundles[:2])[HIDDEN])


def test_bounded_and_free_of_scale():
    shape = (1, 6, 3, 1)
    edges = random_edges(shape)
    edges = edges._replace(gradient=edges.gradient * torch.logspace(-9, 9, 6).view(1, 6, 1, 1))
    small = edges._replace(weight=edges.weight / 100, gradient=edges.gradient / 100)
    a, b = (features_of([(Ends(HIDDEN, INPUT), e)])[HIDDEN] for e in (edges, small))
    assert a.abs().max() <= 1 + 1e-12
    torch.testing.assert_close(a[3:], b[3:], rtol=1e-3, atol=1e-3)


def test_zeros_are_finite_and_differentiable():
    zero = torch.zeros(1, 4, 3, 2, requires_grad=True)
    edges = Edges.of(zero, zero, Moments(zero, zero, zero.detach()))
    features = features_of([(Ends(HIDDEN, INPUT), edges)])
    assert not any(x.any() for x in features.values())
    (slope,) = torch.autograd.grad(sum(x.sum() for x in features.values()), zero)
    assert slope.isfinite().all()


def test_follow_a_permutation_of_grouped_and_nested_neurons():
    graph = EXAMPLES["residual_convnet"]()[1]
    tensors = {n: torch.randn(item.shape).double() for n, item in graph.parameters.items()}

    def features(tensors):
        parts = []
        for name, arrays in graph.views(tensors).items():
            for part, w in zip(graph.layout(name).bundles, arrays, strict=True):
                moments = Moments(w.sin(), w.cos(), w.exp())
                parts.append((ends(part), Edges.of(w, (3 * w).sin(), moments)))
        return features_of(parts)

    before, after = features(tensors), features(permute(graph, tensors, 1))
    moved = 0
    for neurons in before:
        # Rows are sorted as tuples: the same rows must come back, in some order.
        rows, permuted = (sorted(x[neurons].tolist()) for x in (before, after))
        torch.testing.assert_close(torch.tensor(rows), torch.tensor(permuted))
        moved += not torch.allclose(before[neurons], after[neurons])
    assert moved >= 2
