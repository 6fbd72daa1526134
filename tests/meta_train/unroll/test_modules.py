import pytest
import torch
from torch.nn.functional import cross_entropy

from meta_train.unroll.modules import Modules
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from ngopt.optim.optimizer import NeuralGraphOptimizer
from tests.meta_train.module_tasks import (
    MEASURES,
    RULES,
    TASKS,
    Momentum,
    close,
    every_order,
    jiggled,
    normalized,
    plain,
    seeded,
    task,
    truncations,
)

higher = pytest.importorskip("higher")


@every_order
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", TASKS)
def test_both_back_ends_agree(name, measure, second_order):
    given, rule = TASKS[name](), Momentum()
    options = UnrollOptions(
        lr=0.5, lr_spread=2.0, weight_decay=0.1, measure=measure, second_order=second_order
    )
    stacked = truncations(Stacked(rule, options), given)
    looped = truncations(Modules(rule, options), given)
    for (runs, losses, gradient), (other, other_losses, other_gradient) in zip(
        stacked, looped, strict=True
    ):
        close(losses, other_losses)
        close(gradient, other_gradient)
        close(runs.tensors(), other.tensors())
        assert all(g.abs().max() > 0 for g in gradient.values())


@every_order
@pytest.mark.parametrize("name", RULES)
def test_both_back_ends_agree_for_rules_with_memory_and_in_single_precision(name, second_order):
    given, rule = task(plain, torch.float32), jiggled(RULES[name]()).float()
    options = UnrollOptions(lr=0.05, second_order=second_order)
    stacked = truncations(Stacked(rule, options), given)
    looped = truncations(Modules(rule, options), given)
    for (_, losses, gradient), (_, other_losses, other_gradient) in zip(
        stacked, looped, strict=True
    ):
        torch.testing.assert_close(losses, other_losses, rtol=1e-6, atol=1e-6)
        flat = [torch.cat([g.flatten() for g in x.values()]) for x in (gradient, other_gradient)]
        assert (flat[0] - flat[1]).norm() < 2e-5 * flat[0].norm()


def by_hand(rule, runs, index, batches, second_order):
    """Losses of a run that is trained as a user of `higher` would do it."""
    model = runs.task.build()
    model.load_state_dict({n: t[index] for n, t in {**runs.parameters, **runs.buffers}.items()})
    optimizer = NeuralGraphOptimizer(
        model, lr=runs.lr[index], weight_decay=0.1, rule=rule, graph=runs.task.graph
    )
    detached = None if second_order else lambda gradients: [g.detach() for g in gradients]
    losses = []
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        for x, y in batches:
            losses.append(cross_entropy(fmodel(x[index]), y[index]))
            diffopt.step(losses[-1], grad_callback=detached)
    return losses[1:]


@every_order
@pytest.mark.parametrize("build", [plain, normalized], ids=["plain", "normalized"])
def test_a_run_is_an_inner_loop_of_the_optimizer(build, second_order):
    given, rule = task(build), jiggled(RULES["lstm"]())
    options = UnrollOptions(lr=0.05, lr_spread=2.0, weight_decay=0.1, second_order=second_order)
    batches, draw = [], given.batches
    given.batches = lambda *args: batches.append(draw(*args)) or batches[-1]
    unroll = Modules(rule, options)
    begun = unroll.begin(given, 2, seeded())
    fresh = dict(given.module.named_buffers())
    first = begun.with_tensors({"buffers": {n: torch.stack([t] * 2) for n, t in fresh.items()}})
    _, losses = unroll.advance(begun, 4)
    expected = [by_hand(rule, first, index, batches, second_order) for index in range(2)]
    expected = torch.stack([torch.stack(losses) for losses in expected]).T
    close(losses, expected)
    theta = list(rule.parameters())
    for found, wanted in zip(
        torch.autograd.grad(losses.mean(), theta, materialize_grads=True),
        torch.autograd.grad(expected.mean(), theta, materialize_grads=True),
        strict=True,
    ):
        close(found, wanted, rtol=1e-8)
