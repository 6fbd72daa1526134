import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ngopt.backends import dispatch
from ngopt.backends.dispatch import (
    can_use_cpu_loops,
    disable,
    uncompiled,
    without_loops,
)
from ngopt.backends.kernel import CompileError


@pytest.fixture(autouse=True)
def on(monkeypatch):
    monkeypatch.setattr(dispatch, "_off", False)


@torch.no_grad()
def test_numbers_in_memory_are_read():
    tensors = [torch.ones(2), torch.nn.Parameter(torch.ones(2))]
    assert can_use_cpu_loops(tensors)
    with without_loops():
        assert not can_use_cpu_loops(tensors)
    assert can_use_cpu_loops(tensors)


def test_nothing_else_is():
    tensors = [torch.ones(2)]
    with torch.enable_grad():
        assert not can_use_cpu_loops(tensors)
    with torch.no_grad():
        assert not can_use_cpu_loops([torch.ones(2, device="meta")])
        with FlopCounterMode(display=False):
            assert not can_use_cpu_loops(tensors)
        with FakeTensorMode() as mode:
            fake = mode.from_tensor(torch.ones(2))
        assert not can_use_cpu_loops([fake])

        def look(x):
            assert not can_use_cpu_loops([torch.ones(2), x])
            return x

        torch.vmap(look)(torch.ones(2, 2))


@torch.no_grad()
def test_giving_up_is_said_once():
    with pytest.warns(UserWarning, match="cannot be compiled, for no gcc"):
        disable(CompileError("no gcc"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not can_use_cpu_loops([torch.ones(2)])


def test_a_compiler_does_not_look_inside(fresh_compiler):
    seen = []

    @uncompiled
    def hidden(x):
        seen.append(torch.compiler.is_compiling())
        return x + 1

    compiled = torch.compile(lambda x: hidden(x * 2) * 3, backend="eager")
    assert compiled(torch.ones(())) == 9
    assert seen == [False]
