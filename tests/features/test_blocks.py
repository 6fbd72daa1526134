import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ngopt.features.blocks import WHOLE, Block, add_columns, add_rows, blocks

SHAPES = st.tuples(*[st.integers(1, 6)] * 4)


@given(SHAPES, st.integers(1, 200), st.permutations(range(4)))
def test_blocks_cover_each_entry_once(shape, entries, order):
    array = torch.zeros([shape[d] for d in order])
    array = array.permute([order.index(d) for d in range(4)])
    assert array.shape == shape
    divided = blocks(array, entries)
    for block in divided:
        block.of(array).add_(1)
    assert (array == 1).all()
    assert (divided == [WHOLE]) == (array.numel() <= entries)


@pytest.mark.parametrize(
    ("shape", "entries", "sizes"),
    [
        ((1, 100, 10, 1), 200, {(1, 20, 10, 1)}),
        ((1, 100, 10, 9), 900, {(1, 10, 10, 9)}),
        ((8, 10, 10, 1), 200, {(2, 10, 10, 1)}),
        ((2, 4, 50, 1), 10, {(1, 1, 50, 1)}),
        ((1, 7, 3, 1), 12, {(1, 4, 3, 1), (1, 3, 3, 1)}),
    ],
)
def test_blocks_are_as_large_as_allowed_or_one_row(shape, entries, sizes):
    array = torch.zeros(shape)
    assert {tuple(block.of(array).shape) for block in blocks(array, entries)} == sizes


def test_blocks_run_along_memory():
    rows = blocks(torch.zeros(1, 50, 40, 1), 200)
    columns = blocks(torch.zeros(1, 40, 50, 1).transpose(1, 2), 200)
    assert all(block.into == slice(0, 40) for block in rows)
    assert all(block.out == slice(0, 50) for block in columns)


def test_the_limit_depends_on_the_device():
    shape = (1, 2**10, 2**10, 1)
    assert len(blocks(torch.empty(shape))) == 4
    assert blocks(torch.empty(shape, device="meta")) == [WHOLE]


@given(SHAPES, st.integers(1, 200), st.integers(0, 100))
def test_sums_over_blocks_are_sums_over_the_whole(shape, entries, seed):
    array = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()
    rows = columns = whole = None
    for block in blocks(array, entries):
        piece = block.of(array)
        rows = add_rows(rows, block, piece.sum((2, 3)), array.shape)
        columns = add_columns(columns, block, piece.sum((1, 3)), array.shape)
        whole = block.put(whole, piece + 1, array)
    torch.testing.assert_close(rows, array.sum((2, 3)))
    torch.testing.assert_close(columns, array.sum((1, 3)))
    assert torch.equal(whole, array + 1)


def test_rows_and_columns_may_have_features():
    block = Block(slice(0, 1), slice(1, 3), slice(0, 4))
    rows = add_rows(None, block, torch.ones(1, 2, 5), torch.Size((2, 3, 4, 1)))
    assert rows.shape == (2, 3, 5)
    assert rows.sum() == 10
    assert block.rows(rows).all()


def test_what_is_put_together_keeps_the_order_of_memory():
    array = torch.randn(1, 4, 6, 1).transpose(1, 2)
    whole = None
    for block in blocks(array, 8):
        whole = block.put(whole, block.of(array).half(), array)
    assert whole.dtype == torch.float16
    assert whole.stride() == array.stride()
