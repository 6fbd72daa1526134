import pytest
import torch

from ngopt.rules.paper_recipe import DECAYS, init_momenta, update_momenta

NAMES = [f"momentum{number}" for number in range(len(DECAYS))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (0, 2), (3, 4)])
def test_start_at_zero_in_single_precision_at_least(shape, dtype):
    state = init_momenta(torch.ones(shape, dtype=dtype, requires_grad=True))
    assert list(state) == NAMES
    for tensor in state.values():
        assert tensor.shape == shape
        assert tensor.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert not tensor.any()
        assert not tensor.requires_grad


def test_share_no_memory():
    state = init_momenta(torch.ones(3))
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(DECAYS)


def test_sums_of_gradients_with_powers_of_the_decay():
    gradients = torch.randn(6, 4, dtype=torch.float64)
    state = init_momenta(gradients[0])
    for gradient in gradients:
        state = update_momenta(state, gradient)
    for decay, name in zip(DECAYS, NAMES, strict=True):
        powers = torch.tensor([decay ** (5 - t) for t in range(6)], dtype=torch.float64)
        torch.testing.assert_close(state[name], powers @ gradients)


def test_as_torch_sgd_with_momentum():
    ours = torch.zeros(4)
    theirs = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.SGD([theirs], lr=1.0, momentum=DECAYS[1])
    state = init_momenta(ours)
    for gradient in torch.randn(5, 4):
        theirs.grad = gradient
        optimizer.step()
        state = update_momenta(state, gradient)
        ours = ours - state["momentum1"]
    torch.testing.assert_close(ours, theirs.detach())


def test_pure_and_differentiable():
    gradient = torch.randn(3, requires_grad=True)
    state = init_momenta(gradient)
    before = {name: tensor.clone() for name, tensor in state.items()}
    new = update_momenta(update_momenta(state, gradient), gradient)
    assert all(torch.equal(state[name], before[name]) for name in state)
    (slope,) = torch.autograd.grad(new["momentum0"].sum(), gradient)
    torch.testing.assert_close(slope, torch.full((3,), 1 + DECAYS[0]))
