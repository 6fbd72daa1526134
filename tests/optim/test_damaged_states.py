"""States that are cut off or hold other things than they should: refused, and nothing changes."""

import copy

import pytest
import torch
from torch import nn

from ngopt.backends.dispatch import without_loops
from ngopt.errors import NgoptError
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.contract import assert_same, flat_state

RULE = MatrixGNN(width=2, hidden=2, context_every=4)
GONE = object()
OTHERS = {
    "gone": GONE,
    "nothing": None,
    "a list": [[1]],
    "a dict": {"a": 1},
    "a text": "x",
    "a huge number": 10**30,
    "a tensor": torch.ones(2),
}


def trained():
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    optimizer = NeuralGraphOptimizer(model, rule=RULE)
    with without_loops():
        for _ in range(2):
            model(torch.ones(2, 3)).square().sum().backward()
            optimizer.step()
    return optimizer


def paths(content, path=()):
    """Where everything in nested dicts and lists is."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from paths(value, (*path, key))
        else:
            yield (*path, key)


def changed(saved, path, value):
    """A copy with something else in one place."""
    content = copy.deepcopy(saved)
    inside = content
    for key in path[:-1]:
        inside = inside[key]
    if value is GONE:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return content


@pytest.mark.filterwarnings("ignore:the optimizer state was saved with other weights")
@pytest.mark.parametrize("value", OTHERS.values(), ids=OTHERS)
def test_other_things_are_refused_and_change_nothing_or_do_no_harm(value):
    optimizer = trained()
    saved = optimizer.state_dict()
    before, refused = copy.deepcopy(flat_state(optimizer)), 0
    # The rest is read by torch.
    for path in [p for p in paths(saved) if p[:1] == ("ngopt",) or (p[:1] == ("state",) and p[1:])]:
        try:
            optimizer.load_state_dict(changed(saved, path, value))
        except NgoptError:
            refused += 1
            assert_same(before, flat_state(optimizer))
            assert optimizer.state_dict()["ngopt"] == saved["ngopt"]
        else:
            assert optimizer.state_dict().keys() == saved.keys()
            optimizer.load_state_dict(saved)
    assert refused > 40


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_an_error_of_torch_and_changes_nothing(part, tmp_path):
    optimizer = trained()
    path = tmp_path / "optimizer.pt"
    torch.save(optimizer.state_dict(), path)
    before, extra = copy.deepcopy(flat_state(optimizer)), optimizer.state_dict()["ngopt"]
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises((RuntimeError, EOFError, OSError)):
        optimizer.load_state_dict(torch.load(path, weights_only=True))
    assert_same(before, flat_state(optimizer))
    assert optimizer.state_dict()["ngopt"] == extra
    path.write_bytes(content)
    optimizer.load_state_dict(torch.load(path, weights_only=True))
    assert_same(before, flat_state(optimizer))
