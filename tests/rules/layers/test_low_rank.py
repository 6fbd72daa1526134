import pytest
import torch

from ngopt.rules.layers import low_rank
from ngopt.rules.layers.inverse_root import _by_products, inverse_root
from ngopt.rules.layers.low_rank import LowRankCovariance, LowRankRoot, geometric_over_mean

SIDE, RANK = 60, 12
DAMPING = torch.tensor([1e-5, 1e-3], dtype=torch.float64)


@pytest.fixture(params=["eigenvalues", "products"], autouse=True)
def way(request, monkeypatch):
    """On CUDA devices small roots are computed by products, too."""
    if request.param == "products":

        def by_products(matrices, damping):
            found = _by_products(matrices.double(), damping)
            return tuple(tensor.to(matrices) for tensor in found)

        monkeypatch.setattr(low_rank, "inverse_root_and_largest", by_products)
        monkeypatch.setattr(low_rank, "inverse_root", lambda *given: by_products(*given)[0])


def vectors(side=SIDE):
    return torch.linalg.qr(torch.randn(2, side, side, dtype=torch.float64))[0]


def covariance(own, values):
    return (own * values) @ own.mT


def known_of(covariances, calls, rank=RANK):
    """What is known of covariances that stay, after a number of turns."""
    zeros = covariances.new_zeros(*covariances.shape[:2], rank)
    known = LowRankCovariance(zeros, zeros, covariances.diagonal(dim1=1, dim2=2))
    for _ in range(calls):
        known = known.turned()
        known = known._replace(products=covariances @ known.directions)
    return known


def whole(root):
    return root @ torch.eye(root.directions.shape[1]).to(root.directions)


def falling():
    """Covariances whose eigenvalues fall, and their eigenvectors."""
    own, values = vectors(), torch.arange(1, SIDE + 1, dtype=torch.float64) ** -2
    return covariance(own, values), own


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_root_of_few_large_eigenvalues_among_equal_ones(dtype):
    values = torch.full((SIDE,), 1e-3, dtype=torch.float64)
    values[:RANK] = 1.5 ** -torch.arange(RANK)
    own = vectors()
    found = whole(known_of(covariance(own, values).to(dtype), 30).inverse_root(DAMPING)).double()
    # What is left out counts as damping of all.
    damping = DAMPING + geometric_over_mean(SIDE, RANK) * 1e-3
    expected = inverse_root(covariance(own, values.where(values > 1e-3, 0.0)), damping)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-4 * float(expected.max()))


def test_what_is_left_out_has_about_the_geometric_mean_of_its_eigenvalues():
    covariances, _ = falling()
    level = known_of(covariances, 20).inverse_root(DAMPING).level
    left_out = torch.linalg.eigvalsh(covariances)[:, : SIDE - RANK] + DAMPING[:, None]
    torch.testing.assert_close(level, left_out.log().mean(1).mul(-0.5).exp(), rtol=0.1, atol=0)


def test_directions_come_nearer_to_the_eigenvectors():
    covariances, own = falling()
    errors = []
    for calls in (1, 2, 4, 8):
        directions = known_of(covariances, calls).directions
        identity = torch.eye(RANK, dtype=torch.float64).expand(2, -1, -1)
        torch.testing.assert_close(directions.mT @ directions, identity, rtol=0, atol=1e-4)
        first = own[..., : RANK // 2]
        errors.append(float((first - directions @ (directions.mT @ first)).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 < errors[0]


def test_products_with_turned_directions_follow_from_those_that_are_known():
    covariances, _ = falling()
    known = known_of(covariances, 8)
    turned = known.turned()
    expected = covariances @ turned.directions
    assert not torch.allclose(turned.directions, known.directions, atol=1e-3)
    torch.testing.assert_close(turned.products, expected, rtol=0, atol=0.02 * float(expected.max()))
    assert turned.variances is known.variances


def test_directions_that_appear_later_are_found():
    own, values = vectors(), torch.zeros(SIDE, dtype=torch.float64)
    values[:2] = 1.0
    known = known_of(covariance(own, values), 3)
    values[2:4] = 1.0
    covariances = covariance(own, values)
    for _ in range(10):
        known = known._replace(
            products=covariances @ known.directions, variances=covariances.diagonal(dim1=1, dim2=2)
        ).turned()
    lengths = (known.directions.mT @ own[..., :4]).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-3)


def test_neurons_in_another_order():
    covariances, _ = falling()
    order = torch.randperm(SIDE)
    expected = whole(known_of(covariances, 3).turned().inverse_root(DAMPING))
    expected = expected[:, order][:, :, order]
    found = known_of(covariances[:, order][:, :, order], 3).turned().inverse_root(DAMPING)
    torch.testing.assert_close(whole(found), expected, rtol=0, atol=1e-8 * float(expected.max()))


@pytest.mark.parametrize("scale", [1e-20, 1e12])
def test_the_scale_makes_no_difference(scale):
    covariances, _ = falling()
    expected, found = (
        whole(known_of(factor * covariances, 3).turned().inverse_root(DAMPING))
        for factor in (1.0, scale)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_zeros_give_multiples_of_the_identity():
    known = known_of(torch.zeros(2, 5, 5, dtype=torch.float64), 2, rank=3)
    expected = DAMPING.rsqrt()[:, None, None] * torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(whole(known.inverse_root(DAMPING)), expected)


def test_packed_numbers_are_the_same():
    known = LowRankCovariance(
        torch.randn(2, 3, 5, 2), torch.randn(2, 3, 5, 2), torch.randn(2, 3, 5)
    )
    packed = known.pack()
    assert packed.shape == (2, 3, 5 * 5)
    for found, expected in zip(LowRankCovariance.unpack(packed, 2), known, strict=True):
        assert torch.equal(found, expected)
    root = LowRankRoot(torch.randn(2, 3), torch.randn(2, 3, 5, 2), known.directions)
    packed = root.pack()
    assert packed.shape == (2, 3, 1 + 5 * 2)
    for found, expected in zip(LowRankRoot.unpack(packed, known.directions), root, strict=True):
        assert torch.equal(found, expected)


def test_products_are_those_of_whole_matrices():
    root = LowRankRoot(torch.randn(2), torch.randn(2, 5, 3), torch.randn(2, 5, 3))
    lines = torch.randn(2, 5, 4)
    torch.testing.assert_close(root @ lines, whole(root) @ lines)
