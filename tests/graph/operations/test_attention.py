import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden


def attend(h, **options):
    return functional.scaled_dot_product_attention(h, h.cos(), h.sin(), **options)


CASES = [
    (attend, "last", "12"),
    (attend, "middle", "12"),
    (attend, "nested", "3, 4"),
    (lambda h: attend(h, is_causal=True), "last", "12"),
    (lambda h: attend(h, is_causal=True), "middle", ""),
    (lambda h: attend(h, is_causal=True), "nested", "4"),
    (lambda h: attend(h, attn_mask=torch.ones(12, 12).tril().bool()), "middle", ""),
    (lambda h: attend(h, attn_mask=torch.ones(4, 4).tril().bool()), "last", "12"),
    (lambda h: attend(h.unflatten(-1, (3, 4)).transpose(1, 2)), "last", "3, 4 in 3"),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
