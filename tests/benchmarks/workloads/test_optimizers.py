import pytest
import torch
from torch import nn

from benchmarks.workloads.muon import Together, hidden_matrices, muon_beside_adamw
from benchmarks.workloads.optimizers import OPTIMIZERS, adam_lr
from benchmarks.workloads.workload import Recipe, linear

RECIPE = Recipe(torch.optim.AdamW, 0.02, {"betas": (0.8, 0.9)}, 0.1, linear(10))
OF_A_PACKAGE = ("soap", "schedule_free", "prodigy")


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))


def built(name, model, recipe=RECIPE):
    if name in OF_A_PACKAGE:
        pytest.importorskip("pytorch_optimizer")
    return OPTIMIZERS[name](model, recipe, 40)


def groups(optimizer):
    return [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("name", "lr", "decays", "scheduled"),
    [
        ("recipe", 0.02, [0.1, 0.0], True),
        ("ngopt", None, [None], False),
        ("params", None, [None], False),
        ("swap", 0.02, [0.1, 0.0], True),
        ("adamw_default", 1e-3, [0.01], False),
        ("muon", 0.02, [0.1, 0.1, 0.0], True),
        ("soap", 3e-3, [0.1, 0.0], True),
        ("schedule_free", 0.05, [0.1, 0.0], False),
        ("nadamw", 0.02, [0.1, 0.0], True),
        ("prodigy", 1.0, [0.1, 0.0], True),
    ],
)
def test_settings(name, lr, decays, scheduled):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer, schedule = built(name, model)
    assert isinstance(optimizer, torch.optim.Optimizer)
    lr = optimizer.rule.lr if lr is None else lr
    assert groups(optimizer) == [(lr, decay) for decay in decays]
    assert (schedule is not None) == scheduled
    if scheduled and name != "prodigy":
        assert schedule is RECIPE.schedule


def test_the_recipes_options_reach_its_optimizer():
    optimizer, _ = built("recipe", nn.Linear(2, 2))
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


def test_prodigy_ends_at_zero_and_schedule_free_warms_up():
    optimizer, schedule = built("prodigy", nn.Linear(2, 2))
    assert schedule(40) == pytest.approx(0.0, abs=1e-6)
    optimizer, _ = built("schedule_free", nn.Linear(2, 2))
    assert optimizer.param_groups[0]["warmup_steps"] == 2


def test_learning_rates_of_sgd_are_not_taken_for_adams():
    assert adam_lr(Recipe(torch.optim.SGD, 0.1)) == 1e-3
    assert adam_lr(Recipe(torch.optim.Adam, 0.1)) == 0.1


def test_small_learning_rates_stay_small_with_soap():
    (lr, _), _ = groups(built("soap", nn.Linear(2, 2), Recipe(torch.optim.AdamW, 1e-5, {}, 0.1))[0])
    assert lr == pytest.approx(3e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_parameters_stay(name):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[1].requires_grad_(False)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer, _ = built(name, model)
    for _ in range(4):  # SOAP's first step and Prodigy's are next to nothing
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
    moved = [not p.equal(old) for p, old in zip(model.parameters(), before, strict=True)]
    assert moved == [True, True, False, False, True, True]


def test_hidden_matrices():
    model = nn.Sequential(
        nn.Embedding(5, 4), nn.Conv2d(2, 3, 3), nn.Conv2d(3, 1, 3), nn.Linear(4, 4), nn.Linear(4, 2)
    )
    assert [id(p) for p in hidden_matrices(model)] == [id(model[i].weight) for i in (1, 3)]


def test_the_last_of_a_list_of_blocks_is_hidden_where_the_head_is_an_embedding():
    model = Tied()
    assert [id(p) for p in hidden_matrices(model)] == [id(b.weight) for b in model.blocks]
    blocks = nn.ModuleList(model.blocks)  # without an embedding the last is the head
    assert [id(p) for p in hidden_matrices(blocks)] == [id(blocks[0].weight)]


def test_muon_of_a_kernel_is_that_of_its_matrix():
    kernel, matrix = (nn.Sequential(layer, nn.Linear(2, 2)) for layer in layers())
    for model in (kernel, matrix):
        optimizer = muon_beside_adamw(model, 0.1, 0.1, (0.9, 0.99))
        for step in range(2):
            optimizer.zero_grad()
            assert all(p.grad is None for p in model.parameters())
            gradient = torch.arange(24.0).view(3, 8).cos() + step
            model[0].weight.grad = gradient.view_as(model[0].weight)
            optimizer.step()
    assert kernel[0].weight.flatten(1).equal(matrix[0].weight)
    assert not kernel[0].weight.equal(layers()[0].weight)


def layers():
    kernel, matrix = nn.Conv2d(2, 3, 2), nn.Linear(8, 3)
    with torch.no_grad():
        matrix.weight.copy_(torch.arange(24.0).view(3, 8).sin())
        kernel.weight.copy_(matrix.weight.view(3, 2, 2, 2))
    return kernel, matrix


def test_a_schedule_reaches_each_of_those_together():
    parts = [torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0) for _ in range(2)]
    together = Together(parts)
    scheduler = torch.optim.lr_scheduler.LambdaLR(together, linear(2))
    for part in parts:
        part.param_groups[0]["params"][0].grad = torch.ones(1)
    for _ in range(3):
        together.step()
        scheduler.step()
    for part in parts:
        assert part.param_groups[0]["params"][0].item() == pytest.approx(1 - 1 - 0.5)
