import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden

LADDER = torch.arange(1.0, 13.0).double()

CASES = [
    (lambda h: functional.mse_loss(h, h.cos()), "last", "12"),
    (lambda h: functional.mse_loss(h, h.cos(), reduction="none"), "nested", "3, 4 in 3"),
    (lambda h: functional.l1_loss(h, target=LADDER.expand(2, 4, 12)), "last", ""),
    (lambda h: functional.kl_div(h.log_softmax(-1), h.softmax(-1), reduction="sum"), "last", "12"),
    (
        lambda h: functional.binary_cross_entropy_with_logits(h, h.sigmoid(), pos_weight=LADDER),
        "last",
        "",
    ),
    (
        lambda h: functional.binary_cross_entropy(h.sigmoid(), h.sigmoid(), LADDER.expand(2, 12)),
        "matrix",
        "",
    ),
    (lambda h: functional.cross_entropy(h, torch.tensor([1, 2])), "matrix", ""),
    (lambda h: functional.cross_entropy(h, torch.ones(2, 12).long()), "last", "12"),
    (lambda h: functional.cross_entropy(h, LADDER.expand(2, 4, 12)), "last", ""),
    (lambda h: functional.nll_loss(h, torch.arange(24).view(2, 12) % 4), "last", ""),
    (lambda h: functional.cross_entropy(h, torch.ones(2, 4).long()), "nested", "4"),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
