"""Rounding that is right on average over steps."""

import pytest
import torch

from ngopt.backends.cpu.kernel import Kernel
from ngopt.backends.function import Argument, ArgumentShape, Result, Use
from ngopt.features.rounding import rounded, to_bfloat16
from tests.backends.running import run

STEPS = [torch.tensor(float(step)) for step in (1, 2, 3, 1000, 10**6, 2**24)]


def values(*shape):
    generator = torch.Generator().manual_seed(0)
    exponents = 60 * torch.rand(shape, generator=generator) - 30
    return torch.exp(exponents) * (torch.rand(shape, generator=generator) > 0.1)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step:.0f}")
def test_to_a_neighbour_in_bfloat16(step):
    x = values(1000)
    found = rounded(x, step)
    assert torch.equal(found.bfloat16().float(), found)
    below = (x.view(torch.int32) & -0x10000).view(torch.float32)
    above = ((x.view(torch.int32) | 0xFFFF) + 1).view(torch.float32)
    assert ((found == below) | (found == above)).all()
    exact = x.bfloat16().float()
    assert torch.equal(rounded(exact, step), exact)


def test_on_average_it_is_exact():
    x = values(1000)
    mean = torch.stack([rounded(x, torch.tensor(float(step))) for step in range(1, 1001)]).mean(0)
    nearest = (x.bfloat16().float() - x).abs().mean()
    assert (mean - x).abs().mean() < 0.02 * nearest


def test_a_mean_follows_what_it_is_a_mean_of():
    generator = torch.Generator().manual_seed(0)
    mean, kept = torch.zeros(500), torch.zeros(500, dtype=torch.bfloat16)
    nearest = kept.clone()
    for step in range(1, 3001):
        scale = 1.0 if step < 1000 else 0.01
        square = (scale * torch.randn(500, generator=generator)).square()
        mean = torch.lerp(mean, square, 0.001)
        kept = to_bfloat16(torch.lerp(kept.float(), square, 0.001), torch.tensor(float(step)))
        nearest = torch.lerp(nearest.float(), square, 0.001).bfloat16()
    ratio = kept.float() / mean
    assert (ratio.mean() - 1).abs() < 0.03
    assert ratio.std() < 0.06
    assert (nearest.float() / mean).mean() > 1.5


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step:.0f}")
def test_compiled_loops_do_the_same(step):
    x = values(13, 9)
    arguments = [Argument(ArgumentShape.ENTRY), Argument(ArgumentShape.SCALAR)]
    kernel = Kernel(lambda x, s: [rounded(x, s)], arguments, [Result((Use.STORE,))])
    assert torch.equal(run(kernel, [x, step])[0], rounded(x, step))


def test_runs_side_by_side_each_have_a_step_of_their_own():
    x, steps = values(3, 4, 5), torch.tensor([1.0, 2.0, 3.0])
    expected = torch.stack([rounded(a, s) for a, s in zip(x, steps, strict=True)])
    assert torch.equal(torch.vmap(rounded)(x, steps), expected)
    assert torch.equal(
        torch.vmap(rounded, (2, 0), 2)(x.movedim(0, 2), steps), expected.movedim(0, 2)
    )
    assert torch.equal(torch.vmap(rounded, (0, None))(x, steps[0]), rounded(x, steps[0]))
    assert torch.equal(torch.vmap(rounded, (None, 0))(x[0], steps)[2], rounded(x[0], steps[2]))


def test_derivatives_pass_as_if_it_were_not_there():
    x = values(7).requires_grad_()
    found = to_bfloat16(x, STEPS[1])
    assert torch.equal(found.float(), rounded(x.detach(), STEPS[1]))
    (slope,) = torch.autograd.grad(found.float().sum(), x)
    assert (slope == 1).all()
    slopes = torch.vmap(torch.func.grad(lambda x, s: to_bfloat16(x, s).float().sum()))(
        values(2, 3), torch.tensor([1.0, 2.0])
    )
    assert (slopes == 1).all()
