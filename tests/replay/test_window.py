from dataclasses import replace
from itertools import product

import torch
from hypothesis import given
from hypothesis import strategies as st

from ngopt.replay.window import Window, simplified


def window(tensor):
    return Window(0, 0, tuple(tensor.shape), tensor.stride(), tensor.dtype)


def addresses(shape, strides):
    """Where all windows stand at each entry, as a set."""
    return {
        tuple(sum(i * s for i, s in zip(index, stride, strict=True)) for stride in strides)
        for index in product(*map(range, shape))
    }


@st.composite
def looks(draw):
    """Tensors of one shape, laid out in different ways."""
    shape = draw(st.lists(st.integers(1, 4), max_size=4))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        order = draw(st.permutations(range(len(shape))))
        laid_out = torch.empty([shape[dim] for dim in order])
        tensor = laid_out.permute([order.index(dim) for dim in range(len(shape))])
        if shape and draw(st.booleans()):
            tensor = tensor.narrow(0, 0, 1).expand(shape)
        found.append(window(tensor))
    return found


@given(looks())
def test_simplified_windows_visit_the_same_entries(windows):
    sizes, strides = simplified(windows)
    assert addresses(sizes, strides) == addresses(windows[0].shape, [w.stride for w in windows])
    assert len(sizes) == len(strides[0]) >= 1


def test_what_is_contiguous_is_one_row():
    tensor = torch.empty(2, 1, 3, 4)
    assert simplified([window(tensor), window(tensor)])[0] == (24,)
    turned = tensor.permute(3, 2, 1, 0)
    assert simplified([window(turned), window(turned)])[0] == (24,)


def test_broadcasting_is_torchs():
    for small, shape in (((3, 1), (2, 3, 4)), ((), (5,)), ((1,), (2, 2)), ((2, 3), (2, 3))):
        tensor = torch.empty(small)
        expected = tensor.expand(shape)
        spread = window(tensor).spread(shape)
        assert spread.shape == shape
        assert addresses(shape, [spread.stride]) == addresses(shape, [expected.stride()])
        assert replace(spread, shape=small, stride=tensor.stride()) == window(tensor)
