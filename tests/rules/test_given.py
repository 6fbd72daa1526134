import torch

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.given import Given
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.rule_inputs import MLP, draw, zoo_graph


def given(described):
    parameters = draw(described, 0)
    state = MatrixGNN().init_state(parameters, described)
    return Given(parameters, draw(described, 1), state, described)


@torch.no_grad()
def test_tensors_that_nothing_is_known_of_are_on_their_own():
    shapes = {"a": (3,), "b": (3,), "c": (2, 3), "d": (2, 3), "e": (4,)}
    whole = given(NeuralGraph.per_tensor(shapes))
    assert whole.lone() == whole.alike(shapes) == [["a", "b"], ["c", "d"], ["e"]]


@torch.no_grad()
def test_parameters_of_a_network_share_neurons():
    assert given(MLP).lone() == []


@torch.no_grad()
def test_layers_of_one_kind_are_alike():
    whole = given(zoo_graph("hf_gpt2"))
    found = {name: names for names in whole.alike(whole.gradients) for name in names}
    norms = [name for name in whole.gradients if ".ln_" in name and name.endswith("weight")]
    assert len(norms) == 3
    assert set(norms) <= set(found[norms[0]])
    # A bias has the same shape, but is of another kind of layer.
    assert not any("attn" in name for name in found[norms[0]])


def test_alone_there_is_no_other():
    whole = given(MLP)
    name = next(iter(whole.gradients))
    alone = whole.alone(name, *whole.only(name))
    assert list(alone.gradients) == list(alone.parameters) == list(alone.state) == [name]
    assert alone.graph is MLP
