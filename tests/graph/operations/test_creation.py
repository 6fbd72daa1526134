import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden


def filled(write):
    """The operation that writes the neurons into a tensor of zeros."""

    def operation(h):
        zeros = torch.zeros(h.shape, dtype=h.dtype)
        write(zeros, h)
        return h.cos() + torch.ones_like(h) * zeros

    return operation


def filled_out_of_sight(h):
    zeros = torch.zeros(h.shape, dtype=h.dtype)
    other = zeros.detach()
    zeros.add_(h)
    return torch.arange(12) * (torch.ones_like(h) + other)


CASES = [
    (lambda h: torch.cat([h, torch.zeros(2, 4, 3)], -1), "last", "12, 3 in 2 in 4"),
    (lambda h: h + torch.ones(12), "last", "12"),
    (lambda h: h * torch.full_like(h, 2.0), "last", "12"),
    (lambda h: h + torch.arange(12), "last", ""),
    (lambda h: h * torch.linspace(0, 1, 4)[:, None], "last", "12"),
    (lambda h: h * h.new_tensor(2.0), "last", "12"),
    (lambda h: h * torch.tensor([float(i) for i in range(12)]), "last", ""),
    (lambda h: torch.as_tensor(h), "last", ""),
    (lambda h: h * torch.ones_like(h).cumsum(-1), "last", ""),
    (lambda h: functional.one_hot(h.argmax(1) % 3, 3), "last", "12"),
    (lambda h: functional.one_hot(h.argmax(-1), 12), "last", ""),
    (lambda h: torch.normal(h, torch.zeros_like(h)), "last", "12"),
    (lambda h: torch.normal(h * torch.arange(12), 0.0), "last", ""),
    (filled(lambda zeros, h: zeros.copy_(h)), "last", "12"),
    (filled(lambda zeros, h: zeros.add_(h)), "last", "12"),
    (filled(lambda zeros, h: zeros[0].add_(h[0])), "last", "12"),
    (filled(lambda zeros, h: zeros[..., 0].add_(1.0)), "last", "11"),
    (filled(lambda zeros, h: zeros[:, 0].copy_(torch.arange(12))), "last", ""),
    (filled(lambda zeros, h: torch.mul(h, 2, out=zeros)), "last", "12"),
    (filled(lambda zeros, h: torch.mul(h[0], 2, out=zeros[0])), "last", "12"),
    (filled(lambda zeros, h: torch.cumsum(h, -1, out=zeros)), "last", ""),
    (filled_out_of_sight, "last", ""),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
