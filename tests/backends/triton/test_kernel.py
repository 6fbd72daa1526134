"""Kernels of Triton do what the same functions do in torch."""

import numpy as np
import pytest
import torch

from ngopt.backends.function import Argument, ArgumentShape, Result, Use
from ngopt.backends.tables import Tables
from ngopt.backends.triton.kernel import TILE, Kernel, probe, tiles_of
from ngopt.backends.triton.operations import OPERATIONS
from ngopt.features.rounding import rounded
from tests.backends.cpu.test_operations import FUNCTIONS
from tests.backends.running import run
from tests.backends.triton.interpreter import interpreted

pytestmark = interpreted

STORE = (Use.STORE,)
HIGH, WIDE = TILE.high, TILE.wide
SHAPES = [(1, 1), (1, 50), (50, 1), (HIGH, WIDE), (HIGH + 1, WIDE + 1)]


def test_a_kernel_runs():
    probe(torch.device("cpu"))


def test_each_operation_is_there():
    assert OPERATIONS.keys() == FUNCTIONS.keys()


# Tiles reach beyond matrices, where entries are 0.
@pytest.mark.filterwarnings("ignore:(divide|invalid):RuntimeWarning")
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("_to_copy", "expand")])
def test_operation(name):
    a, b, c = torch.randn(9, 33) * 4, torch.rand(9, 33) + 0.1, torch.randn(9, 33)
    function = FUNCTIONS[name]
    kernel = Kernel(lambda *t: [function(*t)], [Argument(ArgumentShape.ENTRY)] * 3, [Result(STORE)])
    (found,) = run(kernel, [a, b, c])
    torch.testing.assert_close(found, function(a, b, c), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("power", range(-6, 2))
def test_small_exponents(power):
    x = -(10.0**power) * (torch.rand(3, 40) + 0.1)
    kernel = Kernel(lambda x: [torch.expm1(x)], [Argument(ArgumentShape.ENTRY)], [Result(STORE)])
    torch.testing.assert_close(run(kernel, [x])[0], torch.expm1(x), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numbers_of_each_kind_and_sums_of_each_kind(shape):
    rows, columns = shape
    arguments = [Argument(kind, count=2) for kind in ArgumentShape]
    uses = [Result((Use.SUM, Use.ROW_SUM)), Result((Use.COLUMN_SUM, Use.STORE))]

    def function(e, f, r, q, c, d, s, t):
        return [e * r + f * c / s, f * q + e * d - t]

    kernel = Kernel(function, arguments, uses)
    entries, by_row, by_column = (torch.rand(2, *n) + 1 for n in (shape, (rows,), (columns,)))
    single = torch.tensor([3.0, 4.0])
    sizes = [(), (rows,), (columns,), shape]
    given = [(size, torch.float32) for size in sizes]
    found = run(kernel, [entries, by_row, by_column, single], given, shape)
    (e, f), (r, q), (c, d), (s, t) = entries, by_row[..., None], by_column, single
    one, other = function(e, f, r, q, c, d, s, t)
    for result, wanted in zip(found, [one.sum(), one.sum(1), other.sum(0), other], strict=True):
        torch.testing.assert_close(result, wanted)


def test_half_precision_is_rounded_to_even_and_an_argument_overwritten():
    arguments = [Argument(ArgumentShape.ENTRY, torch.bfloat16), Argument(ArgumentShape.ENTRY)]
    results = [Result(STORE, torch.bfloat16, into=0), Result(STORE)]
    kernel = Kernel(lambda a, b: [a.float() + b, a.float() - b], arguments, results)
    a, b = torch.randn(5, 40).bfloat16(), torch.randn(5, 40)
    before = a.clone().float()
    (found,) = run(kernel, [a, b])
    torch.testing.assert_close(found, before - b)
    assert torch.equal(a, (before + b).bfloat16())
    assert kernel.outputs == 1


@pytest.mark.parametrize("step", [1.0, 2.0, 4e4, 1e7])
def test_rounding_along_the_golden_ratio(step):
    x, step = torch.rand(7, 9), torch.tensor(step)
    arguments = [Argument(ArgumentShape.ENTRY), Argument(ArgumentShape.SCALAR)]
    kernel = Kernel(lambda x, s: [rounded(x, s)], arguments, [Result(STORE)])
    assert torch.equal(run(kernel, [x, step])[0], rounded(x, step))


def test_rows_that_are_apart():
    arguments = [Argument(ArgumentShape.ENTRY, pitched=True), Argument(ArgumentShape.ENTRY)]
    results = [Result(STORE, into=0), Result(STORE)]
    kernel = Kernel(lambda a, b: [a + b, a - b], arguments, results)
    wide, b, found = torch.randn(5, 300), torch.randn(5, 200), torch.zeros(5, 200)
    before = wide.clone()
    given = np.array([[wide[:, 50:].data_ptr(), b.data_ptr()]])
    tables = [given, np.array([[found.data_ptr()]])]
    kernel.on(np.array([[5, 200, 300]]), *tables, Tables(torch.device("cpu"), tables))()
    assert torch.equal(found, before[:, 50:250] - b)
    before[:, 50:250] += b
    assert torch.equal(wide, before)


def test_tiles_cover_each_matrix_once():
    sizes = np.array([[HIGH, 1, 1], [2 * HIGH + 1, WIDE + 1, WIDE + 1], [0, 5, 5]])
    tiles = tiles_of(sizes).tolist()
    assert tiles[0] == [0, 0, 0]
    expected = [[1, top, left] for top in (0, HIGH, 2 * HIGH) for left in (0, WIDE)]
    assert tiles[1:] == expected
