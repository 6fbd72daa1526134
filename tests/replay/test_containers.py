import pytest
import torch

from ngopt.replay.containers import flat, like

TREES = {
    "tensor": 0,
    "tuple": (0, 0),
    "list": [0, (0,)],
    "dictionary": {"a": 0, "b": 0},
    "names": {"a": 0, "c": 0},
    "nested": ({"a": {"b": 0}, "c": {}}, 0),
    "nested otherwise": ({"a": {"b": 0, "c": 0}},),
    "dictionary first": ({"a": 0}, 0),
    "dictionary last": (0, {"a": 0}),
    "nothing": (),
}


def filled(tree):
    if isinstance(tree, dict):
        return {name: filled(part) for name, part in tree.items()}
    return torch.randn(2) if tree == 0 else tuple(map(filled, tree))


@pytest.mark.parametrize("name", TREES)
def test_put_together_again(name):
    tree = filled(TREES[name])
    tensors, form = flat(tree)
    again = like(tree, iter(tensors))
    assert flat(again)[1] == form
    assert all(one is other for one, other in zip(flat(again)[0], tensors, strict=True))


def test_names_and_nesting_are_told_apart():
    forms = [flat(filled(tree))[1] for name, tree in TREES.items() if name != "list"]
    assert len(set(forms)) == len(forms)
