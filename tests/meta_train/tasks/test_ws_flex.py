import math

import networkx
import numpy
import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.ws_flex import connected, measure, with_measures, ws_flex


def draw(nodes, degree, rewiring, seed=0):
    return ws_flex(nodes, degree, rewiring, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("degree", [2, 2.5, 3.3, 6, 7.9, 14, 15])
@pytest.mark.parametrize("rewiring", [0.0, 0.3, 1.0])
def test_a_graph_is_simple_and_has_the_degree(degree, rewiring):
    graph = draw(16, degree, rewiring)
    assert (graph == graph.T).all()
    assert not graph.diagonal().any()
    assert graph.sum() == 2 * round(16 * degree / 2)


@pytest.mark.parametrize("degree", [2, 4, 8])
def test_without_rewiring_it_is_a_watts_strogatz_ring(degree):
    ring = networkx.watts_strogatz_graph(20, degree, 0)
    assert (draw(20, degree, 0.0) == networkx.to_numpy_array(ring, nodelist=range(20))).all()


def test_the_highest_degree_gives_the_complete_graph():
    for nodes in (8, 9):
        assert draw(nodes, nodes - 1, 0.5).sum() == nodes * (nodes - 1)


def test_rewiring_moves_the_share_of_edges_that_was_asked_for():
    ring = draw(64, 8, 0.0)
    kept = [(draw(64, 8, 0.25, seed) & ring).sum() / ring.sum() for seed in range(20)]
    # An edge stays where it was, or comes back to the ring: (1 - p) + p * (about 8 / 63) at most.
    assert 0.72 < numpy.mean(kept) < 0.80


@pytest.mark.parametrize("seed", range(12))
def test_measures_equal_networkx(seed):
    random = numpy.random.default_rng(seed)
    nodes = int(random.integers(5, 40))
    graph = draw(nodes, float(random.uniform(2, nodes - 1)), float(random.uniform()), seed)
    known = networkx.from_numpy_array(graph.astype(int))
    found = measure(graph)
    assert found.clustering == pytest.approx(networkx.average_clustering(known), abs=1e-12)
    if networkx.is_connected(known):
        length = networkx.average_shortest_path_length(known)
        assert found.path_length == pytest.approx(length, abs=1e-12)
    else:
        assert found.path_length == math.inf


def test_two_separate_triangles_have_no_path_length():
    triangle = numpy.ones((3, 3), dtype=bool) & ~numpy.eye(3, dtype=bool)
    assert measure(numpy.kron(numpy.eye(2, dtype=bool), triangle)) == (1.0, math.inf)


@pytest.mark.parametrize(
    ("nodes", "clustering", "path_length"),
    [(16, 0.5, 1.8), (16, 0.2, 1.9), (32, 0.5, 2.2), (32, 0.3, 2.0), (64, 0.4, 2.3)],
)
def test_a_graph_of_given_measures_is_found(nodes, clustering, path_length):
    found = measure(with_measures(nodes, clustering, path_length, seed=0))
    assert abs(found.clustering - clustering) <= 0.05
    assert abs(found.path_length - path_length) <= 0.05


def test_graphs_depend_on_the_seed_alone():
    for find in (lambda s: connected(16, 3.0, 0.5, s), lambda s: with_measures(16, 0.5, 1.8, s)):
        again = find(1).copy()
        connected.cache_clear()
        with_measures.cache_clear()
        assert (find(1) == again).all()
        assert (find(2) != again).any()


def test_only_connected_graphs_are_kept():
    drawn = [measure(draw(16, 2, 1.0, seed)).path_length for seed in range(10)]
    assert math.inf in drawn
    assert all(math.isfinite(measure(connected(16, 3, 1.0, seed)).path_length) for seed in range(5))


def test_a_graph_that_cannot_be_is_refused():
    with pytest.raises(MetaTrainError, match="degree from 2"):
        draw(8, 8, 0.0)
    with pytest.raises(MetaTrainError, match="the nearest one has"):
        with_measures(8, 0.0, 1.0, seed=0)
