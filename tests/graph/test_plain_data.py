import io
import json

import pytest
import torch

from ngopt.errors import GraphError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.plain_data import from_plain, to_plain
from tests.hand_built import EXAMPLES

GRAPHS = {name: example()[1] for name, example in EXAMPLES.items()}
GRAPHS["per_tensor"] = NeuralGraph.per_tensor({"w": (5, 3, 2), "scalar": (), "empty": (0, 2)})
GRAPHS["with_remarks"] = NeuralGraph({}, {}, {"b": "a"}, ("my_op at model.py:3",), True)
ALL = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def locations(data):
    """Every dict or list within nested ones, with each of its keys or indices."""
    if isinstance(data, (dict, list)):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield data, key
            yield from locations(data[key])


def as_json(graph):
    return json.loads(json.dumps(to_plain(graph)))


@ALL
def test_comes_back_from_json(graph):
    assert from_plain(as_json(graph)) == graph


@ALL
def test_comes_back_from_a_checkpoint_of_weights_only(graph):
    file = io.BytesIO()
    torch.save(to_plain(graph), file)
    file.seek(0)
    assert from_plain(torch.load(file, weights_only=True)) == graph


def test_using_a_graph_does_not_change_what_is_stored():
    used, fresh = EXAMPLES["attention_block"]()[1], EXAMPLES["attention_block"]()[1]
    used.views({"qkv.weight": torch.randn(28, 8)})
    assert used.hidden
    assert to_plain(used) == to_plain(fresh)


def test_other_versions_are_refused():
    data = {**as_json(GRAPHS["mlp"]), "version": 99}
    with pytest.raises(GraphError, match="version 99; this ngopt reads version 1") as error:
        from_plain(data)
    assert "ngopt.trace" in str(error.value)


OPTIONAL = {"pinned", "reason", "activation", "kind", "depth", "buffer"}


def test_missing_data_is_refused_unless_it_has_a_default():
    data = as_json(GRAPHS["attention_block"])
    for place, key in list(locations(data)):
        if isinstance(place, list) or key in OPTIONAL or place is data["aliases"]:
            continue
        value = place.pop(key)
        with pytest.raises(GraphError, match=r"does not describe a graph|cannot read a graph"):
            from_plain(data)
        place[key] = value


@pytest.mark.parametrize("value", [None, 3, "text", [None], {"a": None}], ids=str)
def test_damaged_data_raises_no_other_error(value):
    data = as_json(GRAPHS["attention_block"])
    refused = 0
    for place, key in list(locations(data)):
        right, place[key] = place[key], value
        try:
            assert isinstance(from_plain(data), NeuralGraph)
        except GraphError:
            refused += 1
        place[key] = right
    assert refused > 50
