import math

import pytest
import torch

from ngopt.graph.bundle import ViewStep
from ngopt.graph.layout import Layout
from ngopt.graph.matrix import matrices
from tests.hand_built import EXAMPLES, bundle, spaces

S = spaces(x=2, h=6, m=5, e=3)
GRAPHS = {name: example()[1] for name, example in EXAMPLES.items()}


def layout_of(factors, roles, axes, kind="linear"):
    """The layout of a parameter with one bundle; factors of the same axis make it up together."""
    parts = [[] for _ in range(max(axes) + 1)]
    for factor, axis in zip(factors, axes, strict=True):
        parts[axis].append(S[factor].size if isinstance(factor, str) else factor)
    shape = tuple(math.prod(sizes) for sizes in parts)
    # From the last axis on: a step that splits an axis moves those behind it.
    steps = [ViewStep(axis, 0, shape[axis], tuple(parts[axis])) for axis in sorted({*axes})[::-1]]
    return Layout("w", shape, (bundle("w", S, factors, roles, steps, axes),), kind)


@pytest.mark.parametrize(
    ("factors", "roles", "axes", "expected"),
    [
        (["h", "x"], "oi", [0, 1], (1, 6, 2)),
        (["x", "h"], "io", [0, 1], (1, 6, 2)),
        (["h", "x", 3, 3], "oitt", [0, 1, 2, 3], (1, 6, 18)),
        ([4, "h", "x"], "toi", [0, 0, 1], (1, 24, 2)),
        (["h", "x", 4], "oit", [0, 1, 1], (1, 6, 8)),
        (["m", "e", "x", 3], "goit", [0, 0, 1, 2], (5, 3, 2 * 3)),
        (["h", 1, 3], "gtt", [0, 1, 2], (1, 6, 3)),
        ([3, "h"], "ti", [0, 1], (1, 3, 6)),
        (["m", "h"], "oo", [0, 1], None),
        (["h"], "o", [0], None),
        (["h", "x"], "oi", [0, 0], None),
    ],
    ids=str,
)
def test_what_is_a_matrix(factors, roles, axes, expected):
    found = matrices(layout_of(factors, roles, axes))
    assert [matrix.shape for matrix in found] == ([expected] if expected else [])


@pytest.mark.parametrize("kind", ["embedding", "normalization"])
def test_embeddings_and_norms_are_no_matrices(kind):
    assert matrices(layout_of(["h", "x"], "oi", [0, 1], kind)) == []


def seen(layout):
    """Matrices of a parameter whose entries are counted through, and that parameter."""
    parameter = torch.arange(math.prod(layout.shape)).reshape(layout.shape)
    pairs = zip(matrices(layout), layout.views(parameter), strict=True)
    return [matrix.view(array) for matrix, array in pairs], parameter


@pytest.mark.parametrize(
    ("factors", "roles", "axes", "expected"),
    [
        (["h", "x"], "oi", [0, 1], lambda w: w),
        (["x", "h"], "io", [0, 1], lambda w: w.T),
        (["h", "x", 3, 3], "oitt", [0, 1, 2, 3], lambda w: w.flatten(1)),
        ([4, "h", "x"], "toi", [0, 0, 1], lambda w: w),
        (["m", "e", "x", 3], "goit", [0, 0, 1, 2], lambda w: w.view(5, 3, 6)),
        (["h", 1, 3], "gtt", [0, 1, 2], lambda w: w.flatten(1)),
    ],
    ids=["linear", "transposed", "convolution", "gates", "groups", "depthwise"],
)
def test_rows_and_columns_are_where_the_parameter_has_them(factors, roles, axes, expected):
    (matrix,), parameter = seen(layout_of(factors, roles, axes))
    assert torch.equal(matrix, expected(parameter).reshape(matrix.shape))


def test_parts_of_a_parameter_are_matrices_of_their_own():
    parts, parameter = seen(GRAPHS["attention_block"].layout("qkv.weight"))
    for part, expected in zip(parts, parameter.split([8, 8, 12]), strict=True):
        assert torch.equal(part, expected[None])


@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
def test_array_inverts_view(described):
    for layout in described.parameters.values():
        for matrix in matrices(layout):
            array = torch.randn(matrix.bundle.shape)
            assert torch.equal(matrix.array(matrix.view(array)), array)
