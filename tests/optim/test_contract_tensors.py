import copy

import torch
from torch import nn

from tests.contract import Small, copy_of, every_case, every_plain_case, train


class _Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.scalar = nn.Parameter(torch.tensor(2.0))
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.vector = nn.Parameter(torch.ones(3))
        self.five = nn.Parameter(torch.ones(2, 1, 2, 1, 2))

    def forward(self, x):
        return x * self.scalar * self.vector.sum() * self.five.sum() + self.empty.sum()


@every_case
def test_odd_shapes(case):
    model = _Odd()
    optimizer = case.build(model)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(4)).square().mean().backward()
        optimizer.step()
    assert model.empty.shape == (0, 3)
    assert model.scalar < 2
    assert (model.five < 1).all()


@every_plain_case
def test_channels_last_takes_the_same_steps_and_stays(case):
    model = Small()
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    first, second = case.build(model), case.build(last)
    train(model, first)
    train(last, second)
    assert last.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(copy_of(model), copy_of(last), rtol=1e-3, atol=1e-4)


@every_plain_case
def test_parameters_and_gradients_that_are_not_contiguous(case):
    model = nn.Linear(4, 3, bias=False)
    turned = nn.Linear(4, 3, bias=False)
    turned.weight = nn.Parameter(model.weight.detach().t().contiguous().t())
    first, second = case.build(model), case.build(turned)
    for _ in range(3):
        for each in (model, turned):
            each.zero_grad()
            each(torch.ones(2, 4)).square().sum().backward()
        turned.weight.grad = turned.weight.grad.t().contiguous().t()
        first.step()
        second.step()
    assert not turned.weight.is_contiguous()
    torch.testing.assert_close(model.weight, turned.weight)


class _Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(3, 4, bias=False)
        self.decoder = nn.Linear(3, 4, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        return self.encoder(x) @ self.decoder.weight


@every_case
def test_tied_weights_are_updated_once_and_stay_tied(case):
    model = _Tied()
    optimizer = case.build(model)
    before = model.encoder.weight.detach().clone()
    model(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    assert model.encoder.weight is model.decoder.weight
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 1
    assert not torch.equal(before, model.encoder.weight)
