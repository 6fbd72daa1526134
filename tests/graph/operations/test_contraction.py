import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden

SQUARE = torch.arange(144.0).double().view(12, 12).sin()

CASES = [
    (lambda h: functional.linear(h, SQUARE), "last", ""),
    (lambda h: functional.linear(h.mT, torch.ones(1, 4).double()), "last", "12"),
    (lambda h: h @ SQUARE, "last", ""),
    (lambda h: SQUARE @ h, "middle", ""),
    (lambda h: h @ h.mT, "last", "12"),
    (lambda h: h.mT @ h, "last", "12"),
    (lambda h: torch.matmul(h, other=h.mT), "nested", "3, 4"),
    (lambda h: torch.bmm(h, h.mT), "middle", "12"),
    (lambda h: h @ h, "vector", "12"),
    (lambda h: torch.mv(SQUARE, h), "vector", ""),
    (lambda h: torch.baddbmm(h, torch.ones(2, 4, 4).double(), h), "last", "12"),
    (lambda h: torch.addmm(h, h @ h.T, h), "matrix", "12"),
    (lambda h: torch.addr(SQUARE, h, h), "vector", ""),
    (lambda h: torch.outer(h, h), "vector", "12"),
    (lambda h: torch.inner(h, h), "last", "12"),
    (lambda h: torch.dot(h, h.cos()), "vector", "12"),
    (lambda h: torch.tensordot(h, h, ([-1], [2])), "last", "12"),
    (lambda h: torch.tensordot(h, SQUARE, 1), "last", ""),
    (lambda h: torch.einsum("b t i, b s i -> b t s", h, h), "last", "12"),
    (lambda h: torch.einsum("bti,ij", h, SQUARE), "last", ""),
    (lambda h: torch.einsum("...i,...i->...", [h, h]), "nested", "3, 4 in 3"),
    (lambda h: torch.einsum("bhi,bgi->bhg", h, h), "nested", "3, 4"),
    (lambda h: torch.einsum("bti->ibt", h).cumsum(0), "last", ""),
    (lambda h: torch.einsum("ii->i", torch.outer(h, h.cos())), "vector", "12"),
    (lambda h: functional.bilinear(h, h, SQUARE[None]), "last", ""),
    (lambda h: torch.cdist(h, h), "last", "12"),
    (lambda h: torch.cdist(h, h), "nested", "3, 4"),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
