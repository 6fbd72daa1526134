import pytest
import torch

from benchmarks.workloads.citations import (
    CLASSES,
    DEGREE,
    HOMOPHILY,
    LABELLED,
    NODES,
    NodeClassification,
    citations,
)


def test_a_graph_has_the_size_and_homophily_of_cora():
    graph = citations(0)
    assert graph.edges.shape == (2, NODES * DEGREE)
    assert torch.equal(graph.edges, graph.edges.flip(0).roll(NODES * int(DEGREE) // 2, 1))
    alike = graph.labels[graph.edges[0]] == graph.labels[graph.edges[1]]
    assert alike.float().mean().item() == pytest.approx(HOMOPHILY, abs=0.02)
    torch.testing.assert_close(graph.words.sum(1), torch.ones(NODES))


def test_graphs_differ():
    assert not torch.equal(citations(0).labels, citations(1).labels)


def test_as_many_papers_of_each_topic_are_labelled():
    run = NodeClassification(0, 0.01, "gcn")
    topics = citations(0).labels[run.labelled]
    assert topics.bincount().tolist() == [LABELLED // CLASSES] * CLASSES
