import math

import pytest
import torch

from ngopt.backends.dispatch import eager, without_loops
from ngopt.optim.magnitudes import SMALL, all_finite, largest, magnitudes


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_all_finite(bad):
    assert all_finite({})
    assert all_finite({"a": torch.ones(2), "b": torch.zeros(0), "c": torch.tensor(3e38)})
    assert not all_finite({"a": torch.ones(2), "b": torch.tensor([1.0, bad])})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(7,), (SMALL,), (SMALL + 1,), (3, 1000), (0, 2)], ids=str)
def test_largest_magnitude(shape, dtype):
    values = torch.randn(shape).to(dtype)
    found = largest(values)
    assert (found.shape, found.dtype) == ((), dtype)
    assert found == (values.abs().max() if values.numel() else 0)
    assert largest(-values) == found
    assert largest(values.movedim(0, -1)) == found


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("size", [7, SMALL + 1])
def test_largest_magnitude_is_not_finite_if_any_entry_is_not(size, number):
    values = torch.randn(size)
    values[3] = number
    assert not largest(values).isfinite()


@pytest.mark.parametrize("how", [torch.no_grad, without_loops, eager, torch.enable_grad])
@pytest.mark.parametrize("number", [2.0, math.inf, -math.inf, math.nan])
def test_of_many_tensors_at_once(how, number):
    images = torch.randn(2, 3, 5, 4).contiguous(memory_format=torch.channels_last)
    given = [images, torch.randn(100, 70), torch.randn(4, 3).T, torch.tensor(-0.0)]
    given[1][99, 69] = number
    with how():
        for tensors in (given, [given[1].double(), *given], [*given, torch.zeros(0, 2)]):
            found = magnitudes(tensors)
            expected = torch.stack([largest(tensor) for tensor in tensors])
            assert torch.equal(found.isfinite(), expected.isfinite())
            finite = found.isfinite()
            assert torch.equal(found[finite], expected[finite])


@torch.no_grad()
def test_entries_that_a_view_leaves_out_do_not_count():
    whole = torch.tensor([[1.0, 99.0], [-2.0, 99.0]])
    assert magnitudes([whole[:, 0]]) == 2
