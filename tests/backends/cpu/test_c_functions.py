import numpy as np
import pytest
import torch

from ngopt.backends.cpu import c_functions
from ngopt.backends.cpu.c_functions import MOST, multiply, worthwhile
from ngopt.backends.tables import addresses

SHAPES = [(1, 1), (7, 3), (6, 16), (150, 20), (20, 150), (300, 520)]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("width", [1, 16, 37])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_as_torch_does(shape, width, turned):
    told, tell = shape
    matrices = torch.randn(2, 3, *(shape[::-1] if turned else shape))
    states, found = torch.randn(2, tell, width), torch.full((2, told, 3, width), torch.nan)
    steps = (1, told) if turned else (tell, 1)
    sizes = np.array([(told, tell, *steps)] * 2)
    where = np.stack([addresses(tensor, 1) for tensor in (matrices, states, found)], 1)
    multiply(sizes, where, 3, width)
    given = (matrices.mT if turned else matrices).double()
    wanted = (given @ states.double().unsqueeze(1)).transpose(1, 2)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5 * tell**0.5)


def test_on_several_threads_torch_multiplies_large_matrices(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert worthwhile(MOST + 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert worthwhile(MOST)
    assert not worthwhile(MOST + 1)


def test_torch_multiplies_what_cannot_be_compiled(monkeypatch):
    monkeypatch.setattr(c_functions, "_multiply_loop", lambda: None)
    assert not worthwhile(1)
