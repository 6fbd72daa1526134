import pytest
import torch

from ngopt.nn.size_limit import CALL, SizeLimit


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(2**40),
        lambda: torch.empty((2**20, 2**20)),
        lambda: torch.randn(size=(2**20, 2**20)),
        lambda: torch.nn.Linear(2**20, 2**20),
        lambda: [torch.zeros(1) for _ in range(10**9)],
    ],
)
def test_what_is_too_much_is_refused_before_it_is_made(make):
    with pytest.raises(ValueError, match="more weights than are in the file"), SizeLimit(10_000):
        make()


def test_what_is_not_too_much_is_made_and_counted():
    with SizeLimit(1_000) as bounded:
        made = torch.ones(2, 3)
    assert made.sum() == 6
    assert bounded.left == 1_000 - 6 - CALL
