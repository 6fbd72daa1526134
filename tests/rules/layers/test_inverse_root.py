import pytest
import torch

from ngopt.rules.layers.inverse_root import _by_products, inverse_root

WAYS = {
    "eigenvalues": inverse_root,
    "products": lambda matrices, damping: _by_products(matrices, damping)[0],
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def covariance(side, rank, dtype=torch.float64):
    lines = torch.randn(3, side, rank, dtype=dtype)
    return lines @ lines.mT


def damping(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@every_way
@pytest.mark.parametrize(("side", "rank"), [(1, 1), (5, 2), (40, 60), (150, 10)])
def test_its_square_times_the_damped_matrix_is_the_identity(way, side, rank):
    matrices, added = covariance(side, rank), damping(1e-5, 1e-3, 0.3)
    largest = torch.linalg.eigvalsh(matrices)[:, -1]
    identity = torch.eye(side, dtype=torch.float64)
    damped = matrices / largest[:, None, None] + added[:, None, None] * identity
    found = way(matrices, added)
    torch.testing.assert_close(found, found.mT)
    product = found @ damped @ found
    tolerance = 1e-3 if side > 128 and way is inverse_root else 1e-6
    torch.testing.assert_close(product, identity.expand_as(product), rtol=0, atol=tolerance)


@every_way
@pytest.mark.parametrize("scale", [1e-25, 1e20])
def test_the_scale_makes_no_difference(way, scale):
    matrices, added = covariance(6, 3), damping(1e-5, 1e-5, 1e-5)
    found, expected = way(scale * matrices, added), way(matrices, added)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@every_way
def test_zeros_give_multiples_of_the_identity(way):
    found = way(torch.zeros(2, 3, 3, dtype=torch.float64), damping(1e-4, 0.01))
    expected = damping(100.0, 10.0)[:, None, None] * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_in_single_precision_as_well():
    matrices = covariance(20, 5, torch.float32)
    found = inverse_root(matrices, damping(1e-5, 1e-5, 1e-5))
    assert found.dtype == torch.float32
    expected = inverse_root(matrices.double(), damping(1e-5, 1e-5, 1e-5))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
