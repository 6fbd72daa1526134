import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden

LADDER = torch.arange(1.0, 13.0).double()

CASES = [
    (lambda h: functional.batch_norm(h, None, None, training=True), "middle", "12"),
    (lambda h: functional.batch_norm(h, None, None, LADDER, training=True), "middle", ""),
    (lambda h: functional.batch_norm(h, None, None, training=True), "last", "12"),
    (lambda h: functional.instance_norm(h), "middle", "12"),
    (lambda h: functional.instance_norm(h, bias=LADDER), "middle", ""),
    (lambda h: functional.layer_norm(h, (12,)), "last", "12"),
    (lambda h: functional.layer_norm(h, (12,), bias=LADDER), "last", ""),
    (lambda h: functional.layer_norm(h, (4,)), "nested", "3, 4 in 3"),
    (lambda h: functional.layer_norm(h, [3, 4]), "nested", "3, 4 in 3"),
    (lambda h: functional.rms_norm(h, (12,), LADDER), "last", ""),
    (lambda h: functional.group_norm(h, 3), "middle", "3, 4 in 3"),
    (lambda h: functional.group_norm(h, 1), "middle", "12"),
    (lambda h: functional.group_norm(h, 3, LADDER), "middle", ""),
    (lambda h: functional.normalize(h), "nested", "3, 4"),
    (lambda h: functional.normalize(h, 1.0, -1), "nested", "3, 4 in 3"),
    (lambda h: torch.renorm(h, 2, 2, 1.0), "nested", "3, 4"),
    (lambda h: torch.renorm(h, 2, 1, 1.0), "nested", "3, 4 in 3"),
    (lambda h: functional.local_response_norm(h, 3), "middle", ""),
    (lambda h: functional.local_response_norm(h, 3), "nested", "4"),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
