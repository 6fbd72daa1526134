import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden

LADDER = torch.arange(12.0).double() / 12

CASES = [
    (lambda h: torch.relu(h), "last", "12"),
    (lambda h: h.relu_(), "last", "12"),
    (lambda h: 2 - h, "last", "12"),
    (lambda h: 2 / h, "middle", "12"),
    (lambda h: h**2, "nested", "3, 4 in 3"),
    (lambda h: 2**h, "last", "12"),
    (lambda h: -h, "last", "12"),
    (lambda h: h + LADDER, "last", ""),
    (lambda h: LADDER * h, "last", ""),
    (lambda h: h + LADDER[:4, None], "last", "12"),
    (lambda h: h.clone().add_(LADDER), "last", ""),
    (lambda h: torch.mul(input=h, other=LADDER), "last", ""),
    (lambda h: h.masked_fill(LADDER > 0.5, 0.0), "last", ""),
    (lambda h: h.clone().masked_fill_(h > 0, 0.0), "last", "12"),
    (lambda h: torch.clamp(h, min=LADDER), "last", ""),
    (lambda h: torch.maximum(h, h.cos()), "last", "12"),
    (lambda h: torch.lerp(h, h.cos(), LADDER), "last", ""),
    (lambda h: torch.addcmul(h, h, h, value=0.5), "last", "12"),
    (lambda h: (h > 0) & (LADDER > 0.5), "last", ""),
    (lambda h: ~(h > 0), "last", "12"),
    (lambda h: h.to(torch.float32), "last", "12"),
    (lambda h: h.detach().clone().contiguous().data, "last", "12"),
    (lambda h: torch.complex(h, h.cos()).abs(), "last", "12"),
    (lambda h: functional.dropout(h, 0.5, False), "last", "12"),
    (lambda h: functional.prelu(h, LADDER), "middle", ""),
    (lambda h: functional.prelu(h, LADDER[1:2]), "middle", "12"),
    (lambda h: h * h[..., :1].sum().item(), "last", "11"),
    (lambda h: torch.tensor(h.tolist()), "last", ""),
    (lambda h: torch.from_numpy(h.numpy() * 2), "last", ""),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
