import numpy as np
import pytest
import torch

from ngopt.backends.cpu.kernel import Kernel
from ngopt.backends.cpu.source import source
from ngopt.backends.function import Argument, ArgumentShape, Result, Use
from ngopt.backends.tables import addresses
from tests.backends.running import run


def parts_of(text):
    """What is computed outside the loops over rows, in them, and in those over columns."""
    return text.partition("void one(")[2].partition("void run(")[0].split("for (int64_t")


STORE = (Use.STORE,)
SHAPES = [(1, 1), (1, 50), (50, 1), (5, 7), (64, 100), (33, 17)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@every_shape
def test_numbers_per_entry_row_column_and_in_all(shape):
    rows, columns = shape
    arguments = [Argument(kind) for kind in ArgumentShape]
    kernel = Kernel(lambda e, r, c, s: [e * r + c / s], arguments, [Result(STORE)])
    e, r, c, s = torch.randn(shape), torch.randn(rows), torch.randn(columns), torch.tensor(3.0)
    (found,) = run(kernel, [e, r, c, s])
    torch.testing.assert_close(found, e * r[:, None] + c / s)


@every_shape
def test_sums_come_in_the_order_of_results(shape):
    uses = [
        Result((Use.SUM, Use.ROW_SUM)),
        Result((Use.COLUMN_SUM, Use.STORE, Use.ROW_SUM)),
        Result((Use.STORE, Use.SUM)),
    ]
    kernel = Kernel(lambda a, b: [a * b, a + b, a - b], [Argument(ArgumentShape.ENTRY)] * 2, uses)
    a, b = torch.randn(shape), torch.randn(shape)
    sizes = [(), shape[:1], shape[1:], shape, shape[:1], shape, ()]
    found = run(kernel, [a, b], [(size, torch.float32) for size in sizes])
    expected = [
        *((a * b).sum(), (a * b).sum(1)),
        *((a + b).sum(0), a + b, (a + b).sum(1)),
        *(a - b, (a - b).sum()),
    ]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-3)


def test_many_matrices_of_sizes_of_their_own():
    arguments = [Argument(ArgumentShape.ENTRY, pitched=True), Argument(ArgumentShape.COLUMN)]
    kernel = Kernel(lambda a, c: [a * c], arguments, [Result((Use.STORE, Use.SUM))])
    # Each is part of a wider one.
    matrices = [torch.randn(rows, 2 * columns)[:, :columns] for rows, columns in SHAPES]
    columns = [torch.randn(shape[1]) for shape in SHAPES]
    stored = [torch.empty(shape) for shape in SHAPES]
    sums = torch.ones(len(SHAPES))
    kernel(
        np.array([[*shape, 2 * shape[1]] for shape in SHAPES]),
        np.array([[m.data_ptr(), c.data_ptr()] for m, c in zip(matrices, columns, strict=True)]),
        np.array([[s.data_ptr(), sums[n].data_ptr()] for n, s in enumerate(stored)]),
    )
    for n, (matrix, column) in enumerate(zip(matrices, columns, strict=True)):
        torch.testing.assert_close(stored[n], matrix * column)
        torch.testing.assert_close(sums[n], 1 + (matrix * column).sum(), rtol=1e-5, atol=1e-3)


def test_an_argument_may_be_overwritten():
    arguments = [Argument(ArgumentShape.ENTRY, torch.bfloat16), Argument(ArgumentShape.ENTRY)]
    results = [Result(STORE, torch.bfloat16, into=0), Result(STORE)]
    kernel = Kernel(lambda a, b: [a.float() + b, a.float() - b], arguments, results)
    a, b = torch.randn(5, 40).bfloat16(), torch.randn(5, 40)
    before = a.clone().float()
    (found,) = run(kernel, [a, b])
    torch.testing.assert_close(found, before - b)
    assert torch.equal(a, (before + b).bfloat16())
    assert (kernel.inputs, kernel.outputs) == (2, 1)


def test_addresses_follow_any_strides():
    tensor = torch.arange(24.0).reshape(2, 3, 4).transpose(0, 1)
    found = addresses(tensor, 2)
    assert found.tolist() == [tensor[i, j].data_ptr() for i in range(3) for j in range(2)]
    assert addresses(tensor, 0).tolist() == [tensor.data_ptr()]
    assert addresses(torch.ones(()).expand(3), 1).tolist().count(found[0]) == 0


@pytest.mark.parametrize(
    "kind", [ArgumentShape.SCALAR, ArgumentShape.ROW, ArgumentShape.COLUMN, ArgumentShape.ENTRY]
)
def test_several_of_a_kind_one_after_the_other(kind):
    several = Argument(kind, count=3)
    arguments = [Argument(ArgumentShape.ENTRY), several, Argument(ArgumentShape.ENTRY)]
    kernel = Kernel(lambda a, x, y, z, b: [a * x + b * y - z], arguments, [Result(STORE)])
    sizes = {
        ArgumentShape.SCALAR: (),
        ArgumentShape.ROW: (4, 1),
        ArgumentShape.COLUMN: (1, 6),
        ArgumentShape.ENTRY: (4, 6),
    }
    a, b, numbers = torch.randn(4, 6), torch.randn(4, 6), torch.randn(3, *sizes[kind])
    x, y, z = numbers
    (found,) = run(kernel, [a, numbers, b])
    torch.testing.assert_close(found, a * x + b * y - z)


def test_half_precision_is_read_and_rounded_as_torch_does():
    half = Argument(ArgumentShape.ENTRY, torch.bfloat16)
    results = [Result(STORE, torch.bfloat16), Result(STORE)]

    def function(x, y):
        new = torch.lerp(x.float(), y, 0.1)
        return [new.to(torch.bfloat16), new]

    kernel = Kernel(function, [half, Argument(ArgumentShape.ENTRY)], results)
    x, y = torch.randn(40, 50).bfloat16(), torch.randn(40, 50)
    given = [((40, 50), torch.bfloat16), ((40, 50), torch.float32)]
    rounded, exact = run(kernel, [x, y], given)
    torch.testing.assert_close(exact, torch.lerp(x.float(), y, 0.1))
    assert torch.equal(rounded, exact.bfloat16())
    ties = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 0.0, 1e-40])
    kernel = Kernel(lambda x: [x + 0.0], [Argument(ArgumentShape.ENTRY)], results[:1])
    (found,) = run(kernel, [ties[None]], [((1, 6), torch.bfloat16)])
    assert torch.equal(found[0], ties.bfloat16())


def test_what_depends_on_no_entry_is_computed_outside_the_loop():
    arguments = [
        Argument(ArgumentShape.SCALAR),
        Argument(ArgumentShape.ROW),
        Argument(ArgumentShape.ENTRY),
    ]
    text = source(lambda s, r, e: [e * torch.expm1(s) * r.exp()], arguments, [Result(STORE)])
    outside, rows, entries = parts_of(text)
    assert "expm1f(" in outside
    assert "exp_of(" in rows
    assert "exp" not in entries.replace("expm1 *", "").replace("* exp", "")


def test_what_entries_are_divided_by_is_inverted_outside_the_loop():
    arguments = [Argument(kind) for kind in ArgumentShape]

    def function(e, r, c, s):
        return [e / s + e / r + e / c + s / e]

    text = source(function, arguments, [Result(STORE)])
    outside, rows, entries = parts_of(text)
    assert [part.count(" / ") for part in (outside, rows, entries)] == [1, 1, 2]
    e, r, c, s = torch.rand(6, 9) + 1, torch.randn(6), torch.randn(9), torch.tensor(3.0)
    (found,) = run(Kernel(function, arguments, [Result(STORE)]), [e, r, c, s])
    torch.testing.assert_close(found, e / s + e / r[:, None] + e / c + s / e)


def test_the_random_state_and_the_default_dtype_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    torch.set_default_dtype(torch.float64)
    try:
        kernel = Kernel(
            lambda a: [a * 2], [Argument(ArgumentShape.ENTRY)], [Result((*STORE, Use.SUM))]
        )
        run(kernel, [torch.ones(1, 2, dtype=torch.float32)], [((1, 2), torch.float32)] * 2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.rand(2), expected)
