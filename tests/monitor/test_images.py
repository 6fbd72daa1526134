import math

import pytest
import torch

from ngopt.monitor import images
from ngopt.monitor.images import DIVERGING, NOT_FINITE, SEQUENTIAL, as_image, graph_image, pooled
from tests.rules.rule_inputs import MLP


def pixels(picture):
    """Rows of colours."""
    assert picture.dtype == torch.uint8
    return [[tuple(colour) for colour in row] for row in picture.permute(1, 2, 0).tolist()]


def test_small_matrices_are_not_pooled():
    matrix = torch.randn(4, 7)
    assert pooled(matrix, 7) is matrix


@pytest.mark.parametrize(("limit", "shape"), [(6, (6, 5)), (4, (4, 4)), (1, (1, 1))])
def test_pooling_keeps_the_mean_of_even_blocks(limit, shape):
    matrix = torch.randn(12, 5)
    small = pooled(matrix, limit)
    assert small.shape == shape
    if limit != 4:
        torch.testing.assert_close(small.mean(), matrix.mean())


def test_diverging_colours():
    matrix = torch.tensor([[-4.0, -2.0, 0.0, 2.0, 4.0]])
    assert pixels(as_image(matrix, diverging=True, at_least=1)) == [list(DIVERGING)]


def test_sequential_colours():
    matrix = torch.tensor([[0.0], [0.5], [1.0], [1.5], [2.0]])
    assert pixels(as_image(matrix, at_least=1)) == [[colour] for colour in SEQUENTIAL]
    assert pixels(as_image(-matrix, at_least=1)) == [[SEQUENTIAL[0]]] * 5


def test_a_bound_makes_pictures_comparable():
    matrix = torch.tensor([[0.5, 8.0]])
    assert pixels(as_image(matrix, bound=1.0, at_least=1)) == [[SEQUENTIAL[2], SEQUENTIAL[4]]]


def test_numbers_that_are_not_finite_are_grey():
    matrix = torch.tensor([[math.nan, math.inf, -math.inf, 0.0, 1.0]])
    picture = pixels(as_image(matrix, at_least=1))
    assert picture == [[NOT_FINITE] * 3 + [SEQUENTIAL[0], SEQUENTIAL[-1]]]


@pytest.mark.parametrize("diverging", [True, False])
def test_zeros_are_zero(diverging):
    zero = DIVERGING[2] if diverging else SEQUENTIAL[0]
    assert pixels(as_image(torch.zeros(1, 2), diverging=diverging, at_least=1)) == [[zero, zero]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1000, 30), (256, 30)), ((3, 2), (126, 84)), ((1, 128), (1, 128)), ((0, 3), (0, 126))],
)
def test_size_of_pictures(shape, expected):
    assert as_image(torch.zeros(shape)).shape == (3, *expected)


def test_any_dtype():
    for dtype in (torch.bfloat16, torch.float64, torch.int64, torch.bool):
        picture = as_image(torch.tensor([[0, 1]]).to(dtype), at_least=1)
        assert pixels(picture) == [[SEQUENTIAL[0], SEQUENTIAL[-1]]]


def test_picture_of_a_graph():
    picture = graph_image(MLP)
    assert picture.shape[0] == 3
    assert picture.dtype == torch.uint8
    assert picture.float().std() > 1


@pytest.mark.parametrize("bound", ["LONGEST", "LARGEST"])
def test_large_pictures_of_graphs_get_smaller_until_they_are_illegible(monkeypatch, bound):
    _, height, width = graph_image(MLP).shape
    size = width if bound == "LONGEST" else width * height
    monkeypatch.setattr(images, bound, size * (0.7 if bound == "LONGEST" else 0.49))
    assert graph_image(MLP).shape[2] == pytest.approx(0.7 * width, abs=1)
    monkeypatch.setattr(images, bound, size * (0.4 if bound == "LONGEST" else 0.16))
    assert graph_image(MLP) is None


def test_no_picture_of_a_graph_without_matplotlib(monkeypatch):
    monkeypatch.setattr("ngopt.monitor.images.find_spec", lambda name: None)
    assert graph_image(MLP) is None
