import pytest
import torch
from torch_geometric.nn import GCNConv

from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.errors import MetaTrainError
from meta_train.tasks.gnn import graphs
from tests.meta_train.tasks.table import stacked, task_of

TEXT = "gnn:nodes=12,width=8,depth=2,batch=32"


def one(picture):
    tensors = (torch.tensor(picture)[None, None], torch.zeros(1, dtype=torch.int64))
    return Dataset("one", dict.fromkeys(("train", "held_out", "test"), tensors), 1)


def test_nodes_are_the_brightest_pixels_and_neighbours_the_near_ones():
    dataset = graphs(one([[9.0, 8.0, 0.0], [0.0, 0.0, 7.0], [0.0, 0.0, 0.0]]), 3, 1.5)
    features, adjacency, _ = dataset.splits["train"]
    expected = torch.tensor([[-2 / 3, -2 / 3, 9.0], [-2 / 3, 0.0, 8.0], [0.0, 2 / 3, 7.0]])
    torch.testing.assert_close(features[0], expected)
    # A chain: the middle one has two neighbours, and each is near itself.
    degrees = torch.tensor([2.0, 3.0, 2.0])
    chain = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    torch.testing.assert_close(adjacency[0], chain / (degrees[:, None] * degrees).sqrt())


@pytest.mark.parametrize(("radius", "neighbours"), [(0.5, 1), (1.0, 5), (1.5, 9), (2.0, 13)])
def test_what_stands_at_the_radius_is_near(radius, neighbours):
    dataset = graphs(one(torch.ones(5, 5).tolist()), 25, radius)
    middle = dataset.splits["train"][1][0, 12]
    assert int((middle > 0).sum()) == neighbours


def test_every_split_is_turned_into_graphs_once():
    digits = images("digits", 8)
    dataset = graphs(digits, 12, 1.5)
    assert dataset is graphs(digits, 12, 1.5)
    assert dataset.classes == 10
    for split, (features, adjacency, labels) in dataset.splits.items():
        n = len(digits.splits[split][0])
        assert features.shape == (n, 12, 3)
        assert adjacency.shape == (n, 12, 12)
        assert torch.equal(labels, digits.splits[split][1])


def test_convolutions_are_those_of_torch_geometric():
    module, (nodes, adjacency, _) = task_of(TEXT).module, (t[0, 0] for t in stacked(TEXT)[3])
    hidden, edges = module.embedding(nodes), adjacency.nonzero().t()
    for layer in module.convolutions:
        theirs = GCNConv(8, 8)  # normalises the edges itself, and each node's with itself are there
        theirs.load_state_dict({"lin.weight": layer.weight.detach(), "bias": layer.bias.detach()})
        hidden = hidden + theirs(hidden, edges).relu()
    expected = module.head(hidden.mean(0))
    torch.testing.assert_close(module(nodes[None], adjacency[None])[0], expected)


def test_the_order_of_nodes_does_not_matter():
    module, (nodes, adjacency, _) = task_of(TEXT).module, (t[0] for t in stacked(TEXT)[3])
    order = torch.randperm(12)
    moved = module(nodes[:, order], adjacency[:, order][:, :, order])
    torch.testing.assert_close(moved, module(nodes, adjacency), atol=1e-5, rtol=1e-5)


def test_more_nodes_than_pixels():
    with pytest.raises(MetaTrainError, match=r"16 pixels cannot .* 17 nodes.\n  Choose 1 to 16"):
        task_of("gnn:size=4,nodes=17")
