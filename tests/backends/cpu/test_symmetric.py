import pytest
import torch

from ngopt.backends.cpu import symmetric
from ngopt.backends.cpu.build import NoCompilerError
from ngopt.backends.cpu.symmetric import symmetric_product
from ngopt.backends.switch import plain

SHAPES = [(1, 1, 1), (1, 5, 3), (2, 16, 16), (1, 17, 40), (3, 50, 7), (1, 150, 300), (1, 289, 257)]


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Use it for small matrices too, and tell how often."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(symmetric, "LEAST", 0)
    calls, launch = [], symmetric._launch
    monkeypatch.setattr(symmetric, "_launch", lambda *a: (calls.append(a), launch(*a)))
    with torch.no_grad():
        yield calls
    torch.set_num_threads(before)


def with_itself(matrices, added=None, **factors):
    return symmetric_product(matrices, matrices.mT, added, **factors)


def of_shape(shape, turned=False):
    count, rows, columns = shape
    matrices = torch.randn((count, columns, rows) if turned else shape)
    return matrices.mT if turned else matrices


@pytest.mark.parametrize("turned", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_double_precision(shape, turned, always):
    matrices = of_shape(shape, turned)
    added = torch.randn(shape[0], shape[1], shape[1])
    added = added + added.mT
    expected = matrices.double() @ matrices.double().mT
    scale = expected.abs().max()
    for found, wanted in (
        (with_itself(matrices), expected),
        (with_itself(matrices, alpha=-0.5), -0.5 * expected),
        (with_itself(matrices, added, alpha=3.0, beta=0.5), 0.5 * added + 3 * expected),
    ):
        assert torch.equal(found, found.mT)
        assert ((found - wanted).abs().max() / scale) < 3e-6
    assert len(always) == 3 * shape[0]


def test_symmetric_matrices_that_commute(always):
    matrices = of_shape((1, 60, 60))
    first = matrices @ matrices.mT / 60
    second = 2 * first - first @ first + torch.eye(60)
    found = symmetric_product(first, second)
    torch.testing.assert_close(found, first @ second, rtol=0, atol=1e-4)
    assert torch.equal(found, found.mT)
    assert len(always) == 1


def test_what_is_not_a_number_stays_none():
    matrices = of_shape((1, 20, 30))
    matrices[0, 7, 3] = torch.nan
    found = with_itself(matrices)[0].isnan()
    assert found[7].all()
    assert found.sum() == 39


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_only_single_precision_is_halved(dtype, always):
    matrices = of_shape((2, 9, 12)).to(dtype)
    assert torch.equal(with_itself(matrices), matrices @ matrices.mT)
    assert always == []


@pytest.mark.parametrize("how", ["derivatives", "switched off", "threads", "small"])
def test_where_it_cannot_be_used_torch_multiplies(how, always, monkeypatch):
    matrices = of_shape((2, 9, 12))
    if how == "threads":
        torch.set_num_threads(2)
    if how == "small":
        monkeypatch.setattr(symmetric, "LEAST", 9 * 9 * 12 + 1)
    if how == "derivatives":
        torch.set_grad_enabled(True)
    if how == "switched off":
        with plain():
            found = with_itself(matrices)
    else:
        found = with_itself(matrices)
    assert torch.equal(found, matrices @ matrices.mT)
    assert always == []


def test_without_a_compiler_torch_multiplies(monkeypatch, always):
    def fails(*given, **sizes):
        raise NoCompilerError("there is none")

    monkeypatch.setattr(symmetric, "load", fails)
    monkeypatch.setattr("ngopt.backends.switch._off", False)
    symmetric._run.cache_clear()
    matrices = of_shape((1, 9, 12))
    with pytest.warns(UserWarning, match="there is none"):
        found = with_itself(matrices)
    symmetric._run.cache_clear()
    assert torch.equal(found, matrices @ matrices.mT)
