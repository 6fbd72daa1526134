import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden

TAPS = torch.arange(36.0).double().view(12, 1, 3).sin()

CASES = [
    (lambda h: functional.conv1d(h, TAPS, groups=12), "middle", ""),
    (lambda h: functional.conv1d(h, torch.ones(1, 12, 3).double()), "middle", "12"),
    (lambda h: functional.conv1d(h.flatten(0, 1)[:, None], TAPS, padding="same"), "middle", "12"),
    (lambda h: functional.conv1d(h, torch.ones(1, 4, 3).double()), "last", ""),
    (lambda h: functional.conv_transpose1d(h, TAPS), "middle", ""),
    (lambda h: functional.max_pool1d(h, 2), "middle", "12"),
    (lambda h: functional.max_pool1d(h, 2), "last", ""),
    (lambda h: functional.max_pool2d(h, 2, return_indices=True), "image", "12"),
    (lambda h: functional.avg_pool2d(h, 2, 1), "image", "12"),
    (lambda h: functional.lp_pool1d(h, 2.0, 2), "middle", "12"),
    (lambda h: functional.adaptive_avg_pool1d(h, 1), "middle", "12"),
    (lambda h: functional.adaptive_avg_pool1d(h, 1), "last", ""),
    (lambda h: functional.interpolate(h, scale_factor=2), "image", "12"),
    (lambda h: functional.interpolate(h, size=3, mode="linear"), "last", ""),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
