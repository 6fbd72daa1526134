import pytest
import torch

from tests.graph.operations.between import hidden

ALONG = [
    lambda h, d: h.cumsum(d),
    lambda h, d: torch.cumprod(h, dim=d),
    lambda h, d: h.cummax(d),
    lambda h, d: torch.logcumsumexp(h, d),
    lambda h, d: h.clone().cumsum_(d),
    lambda h, d: h.flip(d),
    lambda h, d: torch.flip(h, [d]),
    lambda h, d: h.flip(dims=(d,)),
    lambda h, d: h.roll(1, d),
    lambda h, d: torch.roll(h, shifts=(1,), dims=(d,)),
    lambda h, d: torch.diff(h, 1, d),
    lambda h, d: torch.trapezoid(h, dim=d),
    lambda h, d: torch.cumulative_trapezoid(h, dim=d),
]


@pytest.mark.parametrize("operation", ALONG)
@pytest.mark.parametrize(
    ("arrangement", "dim", "expected"),
    [
        ("last", -1, ""),
        ("last", 1, "12"),
        ("middle", -2, ""),
        ("nested", 1, "4"),
        ("nested", 2, "3"),
    ],
)
def test_order_along_the_dim_is_pinned(operation, arrangement, dim, expected):
    assert hidden(lambda h: operation(h, dim), arrangement) == expected


@pytest.mark.parametrize(
    ("operation", "arrangement", "expected"),
    [
        (lambda h: h.roll(1), "last", ""),
        (lambda h: h.flip(0, 2), "last", ""),
        (lambda h: h.flip(0, 1), "last", "12"),
        (lambda h: torch.fliplr(h), "last", "12"),
        (lambda h: torch.fliplr(h), "matrix", ""),
        (lambda h: torch.flipud(h), "matrix", "12"),
        (lambda h: torch.rot90(h, 1), "last", "12"),
        (lambda h: torch.rot90(h, 2, (1, 2)), "last", ""),
        (lambda h: torch.tril(h, 1), "last", ""),
        (lambda h: h.triu(diagonal=-1), "middle", ""),
        (lambda h: torch.diag(h), "vector", "12"),
        (lambda h: torch.diag(h, 1), "vector", ""),
        (lambda h: torch.diagonal(h, 0, 1, 2), "last", ""),
    ],
)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
