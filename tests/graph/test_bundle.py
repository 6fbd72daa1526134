import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ngopt.graph.bundle import ROLES, Bundle, ViewStep
from tests.hand_built import bundle, spaces


@st.composite
def bundles(draw):
    """Bundles with up to six dimensions in any order of roles."""
    roles = draw(st.lists(st.sampled_from(ROLES), max_size=6))
    sizes = [draw(st.integers(1, 3)) for _ in roles]
    factors = [
        size if role == "tap" else f"s{d}"
        for d, (role, size) in enumerate(zip(roles, sizes, strict=True))
    ]
    dims = tuple(range(len(roles)))
    return Bundle("w", (), tuple(factors), tuple(sizes), tuple(roles), dims)


@given(bundles())
def test_fold_inverts_view(part):
    tensor = torch.arange(part.numel).reshape(part.sizes)
    array = part.view(tensor)
    assert array.shape == part.shape
    assert torch.equal(part.fold(array), tensor)


@given(bundles())
def test_view_gathers_dimensions_by_role_in_order(part):
    tensor = torch.arange(part.numel).reshape(part.sizes)
    array = part.view(tensor)
    for index in itertools.product(*map(range, part.sizes)):
        position = []
        for role in ROLES:
            flat = 0
            for i, size, r in zip(index, part.sizes, part.roles, strict=True):
                flat = flat * size + i if r == role else flat
            position.append(flat)
        assert array[tuple(position)] == tensor[index]


@given(bundles())
def test_numel_and_neurons_agree_with_the_shape(part):
    group, out, into, tap = part.shape
    size = dict(zip(part.factors, part.sizes, strict=True))
    assert part.numel == group * out * into * tap
    assert math.prod(size[name] for name in part.out_neurons) == group * out
    if part.in_neurons:
        assert math.prod(size[name] for name in part.in_neurons) == group * into


@pytest.mark.parametrize(
    ("shape", "roles", "array"),
    [
        ((5, 3), ("out", "in"), (1, 5, 3, 1)),
        ((3, 5), ("in", "out"), (1, 5, 3, 1)),
        ((5,), ("out",), (1, 5, 1, 1)),
        ((), (), (1, 1, 1, 1)),
        ((5, 3, 2, 2), ("out", "in", "tap", "tap"), (1, 5, 3, 4)),
    ],
)
def test_view_of_usual_parameters_shares_their_memory(shape, roles, array):
    tensor = torch.randn(shape)
    part = Bundle("w", (), shape, shape, roles, tuple(range(len(shape))))
    viewed = part.view(tensor)
    assert viewed.shape == array
    assert viewed.data_ptr() == tensor.data_ptr()
    viewed.zero_()
    assert not tensor.any()


def test_channels_last_weight_is_viewed_too():
    tensor = torch.randn(5, 3, 2, 2).to(memory_format=torch.channels_last)
    part = Bundle("w", (), (5, 3, 2, 2), (5, 3, 2, 2), ("out", "in", "tap", "tap"), (0, 1, 2, 3))
    assert part.view(tensor).data_ptr() == tensor.data_ptr()


def test_grouped_convolution_shares_its_groups_at_both_ends():
    known = spaces(g=3, o=(2, "g"), i=(4, "g"))
    part = bundle("w", known, ["g", "o", "i", 3, 3], "goitt", [ViewStep(0, 0, 6, (3, 2))])
    weight = torch.randn(6, 4, 3, 3)
    array = part.view(weight)
    assert part.shape == array.shape == (3, 2, 4, 9)
    assert part.out_neurons == ("g", "o")
    assert part.in_neurons == ("g", "i")
    assert array[2, 1, 3, 5] == weight[2 * 2 + 1, 3, 1, 2]


def test_bias_has_no_input_neurons_even_with_groups():
    known = spaces(g=3, o=(2, "g"))
    part = bundle("b", known, ["g", "o"], "go", [ViewStep(0, 0, 6, (3, 2))], [0, 0])
    assert part.out_neurons == ("g", "o")
    assert part.in_neurons == ()


def test_free_dimensions_are_not_spaces():
    part = bundle("w", spaces(h=2, k=3), ["h", 4, "k"], "oti")
    assert part.spaces() == ("h", "k")
    assert part.spaces("tap") == ()


def test_steps_narrow_then_unflatten():
    tensor = torch.arange(40).reshape(10, 4)
    steps = (ViewStep(0, 4, 6, (2, 3)), ViewStep(2, 1, 2, (2,)))
    part = Bundle("w", steps, (2, 3, 2), (2, 3, 2), ("tap",) * 3, (0, 0, 1))
    expected = tensor[4:10].reshape(2, 3, 4)[..., 1:3]
    assert torch.equal(part.unfold(tensor), expected)
    assert part.unfold(tensor).data_ptr() == expected.data_ptr()


def test_gradients_flow_through_views():
    weight = torch.randn(6, 4, requires_grad=True)
    part = Bundle("w", (ViewStep(0, 2, 4, (2, 2)),), (2, 2, 4), (2, 2, 4), ("tap",) * 3, (0, 0, 1))
    part.view(weight).sum().backward()
    expected = torch.zeros(6, 4)
    expected[2:] = 1
    assert torch.equal(weight.grad, expected)
