import pytest
import torch
from torch.nn import functional

from tests.graph.operations.between import hidden

SUMS = [
    lambda h, d: h.sum(d),
    lambda h, d: torch.sum(h, (d,), True),
    lambda h, d: torch.mean(h, axis=d, keepdims=True),
    lambda h, d: h.nanmean(dim=d),
    lambda h, d: h.prod(d),
    lambda h, d: torch.std(h, d),
    lambda h, d: h.var(dim=d, correction=0),
    lambda h, d: torch.var_mean(h, d),
    lambda h, d: h.amax(d, True),
    lambda h, d: torch.logsumexp(h, d),
    lambda h, d: (h > 0).any(d),
    lambda h, d: torch.count_nonzero(h > 0, d),
    lambda h, d: h.norm(2, d),
    lambda h, d: torch.norm(h, dim=d, keepdim=True),
    lambda h, d: torch.linalg.norm(h, 3, d),
    lambda h, d: torch.linalg.vector_norm(h, 1, d),
    lambda h, d: h.quantile(0.3, d),
    lambda h, d: torch.quantile(h, h.new_tensor([0.2, 0.4]), dim=d),
    lambda h, d: functional.cosine_similarity(h, h.cos(), d),
    lambda h, d: torch.linalg.vecdot(h, h.cos(), dim=d),
]

NORMALISED = [
    lambda h, d: h.softmax(d),
    lambda h, d: functional.softmax(h, dim=d),
    lambda h, d: functional.log_softmax(h, d),
    lambda h, d: functional.softmin(h, d),
    lambda h, d: functional.normalize(h, dim=d),
    lambda h, d: h - h.mean(d, keepdim=True),
]

RANKED = [
    lambda h, d: h.sort(d)[0],
    lambda h, d: torch.sort(h, d, True)[0],
    lambda h, d: torch.sort(h, stable=True, dim=d)[0],
    lambda h, d: h.argsort(d, descending=True),
    lambda h, d: h.topk(2, d),
    lambda h, d: torch.topk(h, k=2, dim=d)[0],
    lambda h, d: h.kthvalue(2, d, True),
    lambda h, d: torch.kthvalue(h, k=2, dim=d)[0],
    lambda h, d: h.max(d),
    lambda h, d: torch.min(h, dim=d, keepdim=True)[1],
    lambda h, d: h.argmax(d),
    lambda h, d: h.median(d),
    lambda h, d: h.mode(d),
]


@pytest.mark.parametrize("operation", SUMS)
@pytest.mark.parametrize(
    ("arrangement", "dim", "expected"),
    [
        ("middle", 1, "12"),
        ("middle", -1, "12"),
        ("last", -2, "12"),
        ("nested", 1, "3, 4"),
        ("nested", -1, "3, 4 in 3"),
        ("nested", -3, "3, 4 in 3"),
    ],
)
def test_sums_keep_neurons(operation, arrangement, dim, expected):
    assert hidden(lambda h: operation(h, dim), arrangement) == expected


@pytest.mark.parametrize("operation", NORMALISED)
@pytest.mark.parametrize(
    ("arrangement", "dim", "expected"),
    [("last", -1, "12"), ("last", 1, "12"), ("nested", 1, "3, 4"), ("nested", 2, "3, 4 in 3")],
)
def test_normalising_mixes_along_its_dim(operation, arrangement, dim, expected):
    assert hidden(lambda h: operation(h, dim), arrangement) == expected


@pytest.mark.parametrize("operation", RANKED)
@pytest.mark.parametrize(
    ("arrangement", "dim", "expected"),
    [("last", -1, ""), ("last", 1, "12"), ("nested", -2, "4"), ("nested", 2, "3")],
)
def test_ranking_pins_its_dim_only(operation, arrangement, dim, expected):
    assert hidden(lambda h: operation(h, dim), arrangement) == expected


CASES = [
    (lambda h: h.max() * h, "nested", "3, 4 in 3"),
    (lambda h: torch.aminmax(h)[0] + h, "last", "12"),
    (lambda h: h.median() * h, "last", "12"),
    (lambda h: h.argmax(), "last", ""),
    (lambda h: h.std(False), "last", "12"),
    (lambda h: h.sum((0, -1)), "last", "12"),
    (lambda h: h.sum(()), "last", "12"),
    (lambda h: torch.linalg.matrix_norm(h, "nuc"), "nested", "3, 4"),
    (lambda h: torch.linalg.norm(h, 2, (1, 2)), "nested", "3, 4"),
    (lambda h: torch.msort(h), "last", "12"),
    (lambda h: torch.msort(h), "vector", ""),
    (lambda h: torch.max(h, h.cos()), "last", "12"),
    (lambda h: torch.max(h, other=torch.arange(12.0)), "last", ""),
    (lambda h: functional.pairwise_distance(h, h.cos(), keepdim=True), "middle", "12"),
    (lambda h: functional.cosine_similarity(h.unsqueeze(1), h.unsqueeze(2), -1), "nested", "3, 4"),
]


@pytest.mark.parametrize(("operation", "arrangement", "expected"), CASES)
def test_hidden_spaces(operation, arrangement, expected):
    assert hidden(operation, arrangement) == expected
