"""Frameworks edit `param_groups` by hand; steps and checkpoints go on as with AdamW."""

import copy
import pickle

import pytest
import torch
from torch import nn

from ngopt.backends.dispatch import without_loops
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules import Adam, MatrixGNN


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def groups(model):
    return [{"params": list(model[n].parameters())} for n in (0, 2)]


def longer(optimizer, model):
    optimizer.param_groups[1]["params"] += model[4].parameters()


def shorter(optimizer, model):
    del optimizer.param_groups[0]["params"][0]


def shuffled(optimizer, model):
    optimizer.param_groups[0]["params"].reverse()


def moved(optimizer, model):
    optimizer.param_groups[1]["params"].insert(0, optimizer.param_groups[0]["params"].pop())


def group_removed(optimizer, model):
    optimizer.param_groups.pop(0)


def group_appended(optimizer, model):
    first = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    optimizer.param_groups.append({**first, "params": list(model[4].parameters())})


def group_replaced(optimizer, model):
    optimizer.param_groups[0]["params"] = list(model[4].parameters())


EDITS = [longer, shorter, shuffled, moved, group_removed, group_appended, group_replaced]


def run(model, optimizer, steps):
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        model.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_steps_are_those_of_torch(edit):
    """With Adam's rule, so that it can be compared: also the state that torch keeps is kept."""
    found = []
    for ours in (True, False):
        model = net()
        optimizer = (
            NeuralGraphOptimizer(groups(model), lr=0.01, rule=Adam())
            if ours
            else torch.optim.Adam(groups(model), lr=0.01)
        )
        run(model, optimizer, 3)
        kept = (
            copy.copy(optimizer.param_groups),
            [list(g["params"]) for g in optimizer.param_groups],
        )
        edit(optimizer, model)
        run(model, optimizer, 3)
        optimizer.param_groups[:] = kept[0]
        for group, params in zip(kept[0], kept[1], strict=True):
            group["params"] = params
        run(model, optimizer, 3)
        found.append(weights(model))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("given", ["groups", "model"])
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_a_checkpoint_after_an_edit_goes_on_exactly(edit, given):
    with without_loops():
        model = net()
        params = [{"model": model, **group} for group in groups(model)]
        rule = MatrixGNN(width=4, hidden=2, context_every=4)
        optimizer = NeuralGraphOptimizer(params if given == "model" else groups(model), rule=rule)
        run(model, optimizer, 11)
        edit(optimizer, model)
        run(model, optimizer, 2)
        names = [name for group in optimizer._names for name in group]
        assert len(set(names)) == len(names)
        known = {p: name for name, p in model.named_parameters()}
        if given == "model":
            held = [p for group in optimizer.param_groups for p in group["params"]]
            assert names == [known[p] for p in held]
        copied = copy.deepcopy((model, optimizer))
        pickled = pickle.loads(pickle.dumps((model, optimizer)))
        loaded = copy.deepcopy(model)
        places = {p: n for n, p in enumerate(model.parameters())}
        mine = list(loaded.parameters())
        again = NeuralGraphOptimizer(
            [
                {"params": [mine[places[p]] for p in group["params"]]}
                for group in optimizer.param_groups
            ],
            rule=copy.deepcopy(rule),
        )
        again.load_state_dict(optimizer.state_dict())
        run(model, optimizer, 4)
        for other, resumed in (copied, pickled, (loaded, again)):
            run(other, resumed, 4)
            assert all(map(torch.equal, weights(other), weights(model)))


def test_a_tensor_in_the_place_of_another_takes_its_name():
    model = net()
    optimizer = NeuralGraphOptimizer(model.named_parameters(), rule=Adam())
    group = optimizer.param_groups[0]["params"]
    names = [list(own) for own in optimizer._names]
    flat = nn.Parameter(group[0].detach().flatten())
    group[0] = flat
    assert optimizer._names == names
    flat.grad = torch.ones_like(flat)
    optimizer.step()
    assert optimizer.graph.layout(names[0][0]).shape == flat.shape


def test_what_is_added_after_an_edit_has_a_name_of_its_own():
    model = net()
    optimizer = NeuralGraphOptimizer(groups(model), rule=Adam())
    shorter(optimizer, model)
    optimizer.add_param_group({"params": list(model[4].parameters())})
    names = [name for group in optimizer._names for name in group]
    assert len(set(names)) == len(names) == 5
    run(model, optimizer, 2)
