import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden, traced, words

CASES = [
    (lambda h: h.view(-1, 12).softmax(-1), "last", "12"),
    (lambda h: h.reshape(2, -1).softmax(-1), "last", "12"),
    (lambda h: h.flatten().cumsum(0), "last", ""),
    (lambda h: h.unflatten(-1, (3, 4)).softmax(-2), "last", "3, 4"),
    (lambda h: h.unflatten(-1, (3, 4)).softmax(-1), "last", "3, 4 in 3"),
    (lambda h: h.view(2, 4, 2, 6).sum(2), "last", "2, 6"),
    (lambda h: h.reshape(2, 6, 8), "last", ""),
    (lambda h: h.view(torch.int64), "last", "12"),
    (lambda h: h.view(torch.int32), "last", ""),
    (lambda h: h.mT.cumsum(1), "last", ""),
    (lambda h: h.t().cumsum(1), "matrix", "12"),
    (lambda h: h.swapaxes(0, -1).cumsum(-1), "last", "12"),
    (lambda h: h.clone().transpose_(0, -1).cumsum(0), "last", ""),
    (lambda h: h.clone().unsqueeze_(0).cumsum(-1), "last", ""),
    (lambda h: h.clone().unsqueeze(0).squeeze_(0).cumsum(-1), "last", ""),
    (lambda h: h.permute(2, 0, 1).cumsum(-1), "last", "12"),
    (lambda h: torch.permute(h, dims=(2, 0, 1)).cumsum(0), "last", ""),
    (lambda h: h.movedim((0, 1), (1, 2)).cumsum(0), "last", ""),
    (lambda h: torch.moveaxis(h, -1, 0).cumsum(1), "last", "12"),
    (lambda h: h.unsqueeze(1).squeeze().cumsum(1), "last", "12"),
    (lambda h: torch.atleast_3d(h).cumsum(1), "matrix", ""),
    (lambda h: h.expand(3, 2, 4, 12).cumsum(-2), "last", "12, 3 in 12 in 2"),
    (lambda h: h.repeat(1, 1, 2).cumsum(1), "last", "12, 2 in 12 in 2"),
    (lambda h: h.repeat_interleave(2, dim=-1).cumsum(1), "last", "12, 2 in 12 in 2"),
    (lambda h: h.repeat_interleave(torch.tensor([1] * 11 + [2]), -1).sum(), "vector", None),
    (lambda h: functional.channel_shuffle(h, 3), "image", "3, 4 in 3"),
    (lambda h: functional.pixel_shuffle(h, 2), "image", "3"),
    (lambda h: functional.pixel_unshuffle(h, 2), "image", "12"),
    (lambda h: functional.unfold(h, 2), "image", "12"),
    (lambda h: functional.fold(functional.unfold(h, 2), 2, 2), "image", "12"),
    (lambda h: h.unfold(-1, 2, 2), "last", None),
    (lambda h: h[:, :0].reshape(2, 0, 3), "last", ""),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    if expected is None:  # no rule: pinned
        graph = traced(operation, arrangement)
        assert words(graph) == ""
        assert len(graph.unknown) == 1
    else:
        assert hidden(operation, arrangement) == expected
