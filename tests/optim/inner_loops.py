"""Inner loops by higher, and the same steps by the optimizer itself."""

import copy

import pytest
import torch
from torch import nn

from ngopt.optim.optimizer import NeuralGraphOptimizer
from tests.contract import (
    Small,
    assert_same,
    copy_of,
    flat_state,
    loss_of,
    train,
)

higher = pytest.importorskip("higher")


REMEMBERING = ["lstm", "across_lstm", "ng_gnn with memory", "matrix_gnn", "muon"]


class Partial(Small):
    """Has a frozen parameter, one that gets no gradient, and dropout."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(3))
        self.convolution.bias.requires_grad_(False)

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.2, self.training))


def groups(model):
    return [
        {"params": [*model.convolution.parameters()], "lr": 0.1, "weight_decay": 0.1},
        {"params": [*model.linear.parameters(), model.temperature], "maximize": True},
        {"params": [model.unused, *model.norm.parameters()], "weight_decay": 0.3},
    ]


def make(form="model", seed=0, **options):
    torch.manual_seed(seed)
    model = Partial()
    given = {"lr": 1e-2, "rule": "default", **options}
    if form == "model":
        return model, NeuralGraphOptimizer(model, **given)
    if form == "parameters":
        return model, NeuralGraphOptimizer(model.parameters(), **given)
    return model, NeuralGraphOptimizer(groups(model), model=model, **given)


def inner(model, optimizer, steps=4, start=0, **kwargs):
    """Unroll; the fast weights and the state at the end, named as by the model and `flat_state`."""
    with higher.innerloop_ctx(model, optimizer, **kwargs) as (fmodel, diffopt):
        for seed in range(start, start + steps):
            torch.manual_seed(seed)
            diffopt.step(loss_of(fmodel, seed))
    fast = dict(zip(dict(model.named_parameters()), fmodel.parameters(), strict=True))
    kept = [s for group in diffopt.state for _, s in sorted(group.items())]
    return fast, {f"{i}.{k}": v for i, s in enumerate(kept) for k, v in s.items()}, fmodel


def outer(model, optimizer, steps=4, start=0):
    for seed in range(start, start + steps):
        torch.manual_seed(seed)
        train(model, optimizer, 1, seed)


def assert_equal_trajectories(make, stepped=0, **kwargs):
    (model, optimizer), (reference, plain) = make(), make()
    outer(model, optimizer, stepped)
    outer(reference, plain, stepped)
    before = copy_of(model), copy.deepcopy(flat_state(optimizer))
    fast, state, fmodel = inner(model, optimizer, start=stepped, **kwargs)
    assert_same(before[0], copy_of(model))
    assert_same(before[1], flat_state(optimizer))
    outer(reference, plain, start=stepped)
    assert_same(copy_of(reference), fast)
    own = [plain.state[p] for g in plain.param_groups for p in g["params"] if p in plain.state]
    assert_same({f"{i}.{k}": v for i, s in enumerate(own) for k, v in s.items()}, state)
    assert_same(dict(reference.named_buffers()), dict(fmodel.named_buffers()))


def outer_loss(model, optimizer, steps=3):
    *_, fmodel = inner(model, optimizer, steps)
    return loss_of(fmodel, 100)
