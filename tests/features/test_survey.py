import pytest
import torch

from ngopt.features import survey as module
from ngopt.features.blocks import FEW, WHOLE, blocks
from ngopt.features.entries import Edges
from ngopt.features.survey import Matrices, Products, Survey, Surveyor
from tests.features.random_edges import random_edges


@pytest.fixture(autouse=True, params=[FEW, 0], ids=["at once", "one by one"])
def few(request, monkeypatch):
    """Number of entries up to which products are stacked."""
    monkeypatch.setattr(module, "FEW", request.param)


def part_of(edges, block):
    moments = edges.moments._make(map(block.of, edges.moments))
    return Edges.of(block.of(edges.weight), block.of(edges.gradient), moments)


def test_means():
    edges = random_edges(dtype=torch.float64)
    survey, products = Survey.of(edges), Products.of(edges)
    assert torch.equal(products.alignment, edges.gradient * edges.moments.fast)
    for name, product in zip(Products._fields, products, strict=True):
        torch.testing.assert_close(getattr(survey.rows, name), product.mean((2, 3)))
        torch.testing.assert_close(getattr(survey.columns, name), product.mean((1, 3)))
        torch.testing.assert_close(getattr(survey.whole, name), product.mean())
    torch.testing.assert_close(survey.groups, edges.moments.square.mean((1, 2, 3)))
    torch.testing.assert_close(survey.slow, edges.moments.slow.square().mean())
    for square, array in zip(
        survey.matrices, (edges.weight, edges.adam, edges.moments.fast), strict=True
    ):
        torch.testing.assert_close(square, array.mean(3).square().mean())


@pytest.mark.parametrize("entries", [1, 10, 30, 60])
def test_blocks_add_up_to_the_whole(entries):
    edges = random_edges(dtype=torch.float64)
    surveyor = Surveyor(edges.weight.shape)
    divided = blocks(edges.weight, entries)
    assert len(divided) > 1
    for block in divided:
        surveyor.add(block, part_of(edges, block))
    torch.testing.assert_close(surveyor.result(), Survey.of(edges), rtol=1e-12, atol=1e-12)


def test_seen_from_a_block():
    edges = random_edges()
    survey = Survey.of(edges)
    (block, *_) = blocks(edges.weight, 12)
    seen = survey.seen_from(block)
    assert torch.equal(seen.rows.fast, survey.rows.fast[block.group, block.out])
    assert torch.equal(seen.columns.fast, survey.columns.fast[block.group, block.into])
    assert seen.whole is survey.whole
    torch.testing.assert_close(survey.seen_from(WHOLE), survey)


def test_a_lone_tap_is_not_copied():
    edges = random_edges(shape=(2, 5, 3, 1))
    assert Matrices.of(edges).weight.data_ptr() == edges.weight.data_ptr()
    assert torch.equal(Matrices.of(random_edges()).fast, random_edges().moments.fast.mean(3))
