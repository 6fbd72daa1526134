import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden


def written(write):
    """The operation that writes into a copy."""

    def operation(h):
        h = h.clone()
        write(h)
        return h

    return operation


def put(index, value):
    return written(lambda h: h.__setitem__(index, value(h) if callable(value) else value))


ONE_ZERO = torch.tensor([1, 0])
EVEN = torch.arange(12) % 2 == 0

CASES = [
    (lambda h: h[..., 3:], "last", "3, 9"),
    (lambda h: h[:, 1:-1], "middle", "10"),
    (lambda h: h[:, 1], "last", "12"),
    (lambda h: h[None, ..., None, :], "last", "12"),
    (lambda h: h[True], "last", "12"),
    (lambda h: h[..., ::2], "last", "6"),
    (lambda h: h[..., 1::5], "last", ""),
    (lambda h: h[..., [1, 0]], "last", ""),
    (lambda h: h[:, ONE_ZERO], "last", "12"),
    (lambda h: h[ONE_ZERO, :, EVEN[:4]], "middle", ""),
    (lambda h: h[..., EVEN], "last", ""),
    (lambda h: h[h > 0][:2], "last", ""),
    (lambda h: h.index_select(-1, ONE_ZERO), "last", ""),
    (lambda h: torch.index_select(h, dim=1, index=ONE_ZERO), "last", "12"),
    (lambda h: h.gather(-1, h.argsort(-1)), "last", ""),
    (lambda h: h.gather(1, h.argsort(1)), "last", "12"),
    (lambda h: torch.take_along_dim(h, h.argsort(1), 1), "last", "12"),
    (lambda h: torch.take_along_dim(h, h.argsort(-1), dim=-1), "nested", "3"),
    (lambda h: h.scatter(1, h.argmax(1, keepdim=True), 1.0), "last", "12"),
    (lambda h: h.scatter_add(1, h.argsort(1), h.cos()), "last", "12"),
    (lambda h: torch.scatter_reduce(h, -1, h.argsort(-1), h, reduce="sum"), "last", ""),
    (lambda h: h.index_add(1, ONE_ZERO, h[:, :2]), "last", "12"),
    (lambda h: h.index_add(-1, ONE_ZERO, h[..., :2]), "last", ""),
    (lambda h: h.index_fill(-1, ONE_ZERO, 1.0), "last", ""),
    (lambda h: h.index_copy(0, ONE_ZERO, h), "last", "12"),
    (lambda h: torch.where(h > 0, h, 0.0), "last", "12"),
    (lambda h: torch.where(EVEN, h, 0.0), "last", ""),
    (lambda h: torch.where(h > 0)[0][:1], "last", ""),
    (lambda h: h.unique()[:2], "last", ""),
    (lambda h: h.masked_scatter(h > 0, torch.arange(96.0).double()), "last", ""),
    (lambda h: functional.embedding(ONE_ZERO, h), "matrix", "12"),
    (lambda h: functional.embedding(ONE_ZERO, h.t()), "matrix", ""),
    (lambda h: functional.embedding_bag(ONE_ZERO[None], h), "matrix", "12"),
    (put((..., slice(3)), lambda h: h[..., 3:6]), "last", "3, 6"),
    (put((..., slice(3)), 1.0), "last", "3, 9"),
    (put((slice(None), 0), lambda h: h[:, 1]), "last", "12"),
    (put((slice(None), 0), torch.arange(12.0).double()), "last", ""),
    (put((..., EVEN), 0.0), "last", ""),
    (put((..., None, slice(2)), lambda h: h[..., None, 2:4]), "last", "2, 8"),
    (written(lambda h: h[..., :3].mul_(h[..., 3:6])), "last", "3, 6"),
    (written(lambda h: h[..., :3].zero_()), "last", "3, 9"),
    (written(lambda h: h[:, 0].copy_(h[:, 1].flip(-1))), "last", ""),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
