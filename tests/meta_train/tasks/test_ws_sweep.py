import networkx
import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks import ws_sweep
from meta_train.tasks.ws_flex import drawn, measure
from meta_train.tasks.ws_sweep import named, sweep


def test_graphs_are_sparse_spread_and_different():
    graphs = sweep(32, 12)
    measures = torch.tensor([graph.measures for graph in graphs])
    assert len(graphs) == 12
    assert all(graph.sparsity >= 0.125 for graph in graphs)
    assert measures[:, 0].max() - measures[:, 0].min() > 0.5
    assert measures[:, 1].max() > 2 > 1.3 > measures[:, 1].min()
    nearest = torch.cdist(measures, measures).fill_diagonal_(9).min()
    assert nearest > 0.01


def test_a_sweep_depends_on_its_seed_alone_and_is_kept(tmp_path, monkeypatch):
    first = sweep(16, 5, seed=1, folder=tmp_path)
    assert first == sweep(16, 5, seed=1) != sweep(16, 5, seed=2)
    monkeypatch.setattr(ws_sweep, "_swept", None)
    assert sweep(16, 5, seed=1, folder=tmp_path) == first


def test_the_degree_and_rewiring_are_those_of_the_published_grid():
    choices = ws_sweep._choices(64, 0, 4000)
    degrees = torch.linspace(2, 62**0.5, 200, dtype=torch.float64) ** 2
    rewirings = torch.linspace(0, 1, 300, dtype=torch.float64) ** 2
    for choice in choices[:50]:
        assert (degrees - choice["degree"]).abs().min() < 1e-9
        assert (rewirings - choice["rewiring"]).abs().min() < 1e-9
    assert min(choice["degree"] for choice in choices) >= 8


def test_graphs_with_names_are_what_they_are_called():
    complete, lattice, small, random = (named(name, 64) for name in ws_sweep.NAMED)
    assert complete.measures == (1.0, 1.0)
    assert lattice.measures.path_length > 4
    assert 2.3 < small.measures.path_length < 2.5
    assert random.measures.clustering < 0.15
    assert lattice.sparsity == small.sparsity == random.sparsity == 0.125


def test_the_published_best_graph_has_about_the_published_measures():
    # Drawn by other code: clustering .448 and path length 2.479.
    found = torch.tensor([measure(drawn(64, 0.128001 * 64, 0.128063, s)) for s in range(8)])
    assert found[:, 0].mean().item() == pytest.approx(0.448, abs=0.03)
    assert found[:, 1].mean().item() == pytest.approx(2.479, abs=0.06)


def test_too_many_graphs_are_refused(monkeypatch):
    monkeypatch.setattr(ws_sweep, "DRAWS", 1)
    with pytest.raises(MetaTrainError, match="not different enough"):
        sweep(8, 100)
    with pytest.raises(MetaTrainError, match="graph with a name"):
        named("star", 8)


def test_measures_of_graphs_with_names_are_networkx_own():
    for name in ("complete", "lattice", "small_world", "random"):
        graph = named(name, 64).graph
        known = networkx.from_numpy_array(graph.astype(int))
        assert measure(graph) == pytest.approx(
            (networkx.average_clustering(known), networkx.average_shortest_path_length(known))
        )
