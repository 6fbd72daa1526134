"""Beside what people train with: averaged weights, checkpointed activations, compiled models."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.checkpoint import checkpoint

from ngopt.optim.optimizer import NeuralGraphOptimizer

INPUTS = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
TARGETS = INPUTS[:, :2].sin()


def net(norm=False):
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(16)] if norm else []
    return nn.Sequential(nn.Linear(6, 16), *middle, nn.Tanh(), nn.Linear(16, 2))


def train(model, optimizer, steps=15, call=None, after=lambda: None):
    for _ in range(steps):
        optimizer.zero_grad()
        (call or model)(INPUTS).sub(TARGETS).square().mean().backward()
        optimizer.step()
        after()


def weights(model):
    return [parameter.detach() for parameter in model.parameters()]


def plainly():
    model = net()
    train(model, NeuralGraphOptimizer(model))
    return weights(model)


@pytest.mark.parametrize("how", [None, get_ema_multi_avg_fn(0.9)], ids=["SWA", "EMA"])
def test_an_averaged_model_follows_and_disturbs_nothing(how):
    model = net()
    optimizer = NeuralGraphOptimizer(model)
    average = AveragedModel(model, multi_avg_fn=how)
    seen = []

    def after():
        average.update_parameters(model)
        seen.append(copy.deepcopy(model))

    train(model, optimizer, after=after)
    assert all(map(torch.equal, weights(model), plainly()))
    for number, averaged in enumerate(weights(average.module)):
        history = [weights(past)[number] for past in seen]
        expected = history[0]
        for count, value in enumerate(history[1:], 1):
            expected = expected.lerp(value, 1 / (count + 1) if how is None else 0.1)
        torch.testing.assert_close(averaged, expected)


def test_swa_with_its_schedule_and_norms():
    model = net(norm=True)
    optimizer = NeuralGraphOptimizer(model, lr=1e-2)
    average, schedule = AveragedModel(model), SWALR(optimizer, swa_lr=1e-3, anneal_epochs=5)

    def after():
        average.update_parameters(model)
        schedule.step()

    train(model, optimizer, 40, after=after)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)
    update_bn([INPUTS], average)
    assert (average.eval()(INPUTS) - TARGETS).square().mean() < 0.5 * TARGETS.square().mean()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_activations_give_the_same_steps(reentrant):
    model = net()
    optimizer = NeuralGraphOptimizer(model)
    train(
        model,
        optimizer,
        call=lambda x: checkpoint(model, x.requires_grad_(reentrant), use_reentrant=reentrant),
    )
    INPUTS.requires_grad_(False)
    assert [space.size for space in optimizer.graph.hidden] == [16]
    for found, expected in zip(weights(model), plainly(), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_is_traced_and_takes_the_same_steps():
    model = net()
    optimizer = NeuralGraphOptimizer(model)
    train(model, optimizer, call=torch.compile(model, backend="aot_eager"))
    assert [space.size for space in optimizer.graph.hidden] == [16]
    for found, expected in zip(weights(model), plainly(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_torch_func():
    model = net()
    optimizer = NeuralGraphOptimizer(model)
    model(INPUTS)  # is traced

    def loss(parameters):
        return functional_call(model, parameters, (INPUTS,)).sub(TARGETS).square().mean()

    for _ in range(15):
        parameters = dict(model.named_parameters())
        for name, gradient in grad(loss)({n: p.detach() for n, p in parameters.items()}).items():
            parameters[name].grad = gradient
        optimizer.step()
    for found, expected in zip(weights(model), plainly(), strict=True):
        torch.testing.assert_close(found, expected)


def test_tied_parametrized_and_spectral_weights_move():
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
    model = nn.Sequential(layer, nn.utils.parametrizations.orthogonal(nn.Linear(6, 2)))
    optimizer = NeuralGraphOptimizer(model)
    before = [parameter.clone() for parameter in weights(model)]
    train(model, optimizer, 3)
    assert all((new != old).any() for new, old in zip(weights(model), before, strict=True))
    assert optimizer.skipped_steps == 0
