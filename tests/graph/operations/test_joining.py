import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden

CASES = [
    (lambda h: torch.cat([h, h.cos()], -1), "last", "12"),
    (lambda h: torch.cat([h, h.cos()], -1).softmax(-1), "nested", "3, 4 in 3"),
    (lambda h: torch.cat((h, h.cos()), 1), "last", "12"),
    (lambda h: torch.concat([h, h.cos()], axis=-1).cumsum(1), "last", "12"),
    (lambda h: torch.cat([h, torch.arange(12).expand(2, 1, 12)], 1), "last", ""),
    (lambda h: torch.hstack([h, h.cos()]), "matrix", "12"),
    (lambda h: torch.vstack([h, h.cos()]), "vector", "12"),
    (lambda h: torch.stack([h, h.cos()], 1).sum(1), "last", "12"),
    (lambda h: torch.vstack([h, h.cos()]).cumsum(0), "vector", "12"),
    (lambda h: torch.column_stack([h, h.cos()]).cumsum(1), "vector", "12"),
    (lambda h: torch.hstack([h, h.cos()]), "vector", "12"),
    (lambda h: torch.dstack([h, h.cos()]).cumsum(2), "matrix", "12"),
    (lambda h: torch.dstack([h, h.cos()]).cumsum(1), "vector", ""),
    (lambda h: torch.cat([h, h[..., :0]], -1), "last", "12"),
    (lambda h: torch.stack((h, h.cos()), dim=-1).softmax(-2), "last", "12"),
    (lambda h: torch.stack([h, h.cos()], -1).flatten(-2).cumsum(-1), "last", ""),
    (lambda h: h.split(4, -1)[0] * h.split(4, -1)[2], "last", "4, 4"),
    (lambda h: torch.split(h, [3, 9], dim=-1)[1], "last", "3, 9"),
    (lambda h: h.chunk(2, -1), "last", "6, 6"),
    (lambda h: h.tensor_split((5,), dim=-1)[0], "last", "5, 7"),
    (lambda h: h.unbind(1)[2], "last", "12"),
    (lambda h: torch.unbind(h, dim=-2), "nested", "4, 4, 4"),
    (lambda h: torch.select(h, 1, -1), "last", "12"),
    (lambda h: h.narrow(-1, 2, 3), "last", "2, 3, 7"),
    (lambda h: h.narrow(-1, -3, 2), "last", "2, 9"),
    (lambda h: torch.narrow(h, 1, 0, 2), "last", "12"),
    (lambda h: functional.glu(h), "last", "6"),
    (lambda h: functional.glu(h, 1), "last", "12"),
    (lambda h: functional.pad(h, (0, 0, 1, 1)), "last", "12"),
    (lambda h: functional.pad(h, (0, 2)), "last", "12, 2 in 2 in 4"),
    (lambda h: functional.pad(h, (1, 1), mode="reflect"), "last", ""),
    (lambda h: functional.pad(h, (1, 1), "circular"), "middle", "12"),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
