import torch

from ngopt.features.bundle_statistics import BundleStatistics, MessageMatrices, Products
from tests.features.random_edges import random_edges


def test_means():
    edges = random_edges(dtype=torch.float64)
    statistics, products = BundleStatistics.of(edges), Products.of(edges)
    assert torch.equal(products.alignment, edges.gradient * edges.moments.fast)
    for name, product in zip(Products._fields, products, strict=True):
        torch.testing.assert_close(getattr(statistics.rows, name), product.mean((2, 3)))
        torch.testing.assert_close(getattr(statistics.columns, name), product.mean((1, 3)))
        torch.testing.assert_close(getattr(statistics.whole, name), product.mean())
    torch.testing.assert_close(statistics.groups, edges.moments.square.mean((1, 2, 3)))
    torch.testing.assert_close(statistics.slow, edges.moments.slow.square().mean())


def test_a_lone_tap_is_not_copied():
    edges = random_edges(shape=(2, 5, 3, 1))
    assert (
        MessageMatrices.over_taps(*[edges.weight] * 3).weight.data_ptr() == edges.weight.data_ptr()
    )
    array = torch.randn(2, 5, 3, 4)
    assert torch.equal(MessageMatrices.over_taps(*[array] * 3).fast, array.mean(3))
