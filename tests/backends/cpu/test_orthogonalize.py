import numpy as np
import pytest
import torch

from ngopt.backends.cpu import orthogonalize as module
from ngopt.backends.cpu.orthogonalize import orthogonalize, worthwhile
from ngopt.backends.tables import addresses
from ngopt.features.scale import EPS, root_inverse
from ngopt.rules.layers.polar import rough_polar_factor

SMALL = [(1, 1), (1, 9), (9, 1), (8, 8), (5, 40), (40, 5)]
SHAPES = [*SMALL, (33, 64), (64, 33), (16, 300), (120, 290), (300, 270)]


def expected(matrices, steps, lines, damping=0.0):
    _, rows, columns = matrices.shape
    square = matrices.square().mean((1, 2), keepdim=True)
    given = matrices * root_inverse(square) * (rows * columns) ** -0.5
    result = rough_polar_factor(given, steps, damping) if steps else matrices
    if lines:
        squares = result.square().mean(3 - lines, keepdim=True)
        result = result * torch.rsqrt(squares + EPS**2)
    return result


@pytest.mark.parametrize("lines", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_as_torch_does(shape, steps, lines):
    matrices = 1e-3 * torch.randn(3, *shape)
    wanted = expected(matrices.double(), steps, lines)
    sizes = np.array([[*shape, lines]] * 3)
    assert orthogonalize(sizes, addresses(matrices, 1), steps)
    torch.testing.assert_close(matrices.double(), wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max())


@pytest.mark.parametrize(("steps", "damping"), [(2, 0.5), (3, 2.0), (0, 1.0)])
@pytest.mark.parametrize("shape", [(1, 9), (16, 24), (40, 5), (300, 270)], ids=str)
@torch.no_grad()
def test_as_torch_does_with_damping_and_without_iterations(shape, steps, damping):
    matrices = 1e-3 * torch.randn(2, *shape)
    wanted = expected(matrices.double(), steps, 1, damping)
    orthogonalize(np.array([[*shape, 1]] * 2), addresses(matrices, 1), steps, damping)
    torch.testing.assert_close(matrices.double(), wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max())


@torch.no_grad()
def test_damping_suffices_for_matrices_of_a_low_rank():
    matrices = torch.randn(3, 40, 1) @ torch.randn(3, 1, 30) + 1e-6 * torch.randn(3, 40, 30)
    wanted = expected(matrices.double(), 3, 1, damping=1.0)
    orthogonalize(np.array([[40, 30, 1]] * 3), addresses(matrices, 1), 3, 1.0)
    torch.testing.assert_close(matrices.double(), wanted, rtol=1e-3, atol=1e-5 * wanted.abs().max())


@torch.no_grad()
def test_zeros_stay_zeros():
    matrices = torch.zeros(2, 4, 6)
    assert orthogonalize(np.array([[4, 6, 1]] * 2), addresses(matrices, 1), 2)
    assert not matrices.any()


@pytest.mark.parametrize(("threads", "large"), [(1, True), (2, False)])
def test_large_matrices_are_left_to_several_threads_of_torch(threads, large):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert worthwhile(64, 300)
        assert worthwhile(10**6, 1)
        assert worthwhile(1000, 1001) is large
    finally:
        torch.set_num_threads(before)


def test_nothing_is_done_without_a_compiler(monkeypatch):
    monkeypatch.setattr(module, "load_with_products", lambda *_, **__: None)
    matrices = torch.ones(1, 2, 2)
    assert not orthogonalize(np.array([[2, 2, 1]]), addresses(matrices, 1), 2)
    assert torch.equal(matrices, torch.ones(1, 2, 2))
