import numpy
import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.relational import block_mask
from meta_train.tasks.wiring import Wiring, block_sizes, dense_mask
from meta_train.tasks.ws_flex import connected

GRAPH = connected(16, 4.5, 0.3, 1)


def test_the_mask_is_that_of_the_family_of_tasks():
    graph, even = GRAPH, block_sizes(37, 16)
    mask = dense_mask(graph, even, even)
    assert torch.equal(mask, block_mask(graph, 37))
    assert Wiring(graph, even, even).weights == int(mask.sum())


def test_sizes_are_even_and_drawn_from_the_seed():
    assert block_sizes(20, 8).tolist() == [3, 3, 3, 3, 2, 2, 2, 2]
    drawn = block_sizes(20, 8, seed=1)
    assert sorted(drawn.tolist()) == [2, 2, 2, 2, 3, 3, 3, 3]
    assert drawn.tolist() == block_sizes(20, 8, seed=1).tolist() != block_sizes(20, 8).tolist()


def test_a_layer_leaves_the_graph_alone():
    graph = numpy.array(GRAPH)
    Wiring(graph, block_sizes(16, 16), block_sizes(16, 16))
    assert not graph.diagonal().any()


def test_fewer_neurons_than_nodes_are_refused():
    with pytest.raises(MetaTrainError, match="8 nodes cannot share 7 neurons"):
        block_sizes(7, 8)
