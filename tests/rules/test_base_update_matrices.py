import pytest
import torch

from ngopt.graph.matrix import Matrix
from ngopt.rules.base_update import BaseUpdate
from tests.hand_built import bundle, spaces
from tests.rules.untrained import rough_polar_factor

S = spaces(x=4, m=5, e=3, n=7)
WIDE = Matrix.of(bundle("wide", S, ["e", "n"], "oi"))
TALL = Matrix.of(bundle("tall", S, ["n", "e"], "oi"))
MATRICES = {
    "wide": WIDE,
    "tall": TALL,
    "square": Matrix.of(bundle("square", S, ["m", "m"], "oi")),
    "transposed": Matrix.of(bundle("transposed", S, ["m", "n"], "io")),
    "one": Matrix.of(bundle("one", S, [1, 1], "oi")),
    "taps": Matrix.of(bundle("taps", S, ["n", "e", 2, 2], "oitt")),
    "gates": Matrix.of(bundle("gates", S, [4, "e", "m"], "toi", axes=[0, 0, 1])),
    "groups": Matrix.of(bundle("groups", S, ["x", "n", "e"], "goi", axes=[0, 0, 1])),
    "depthwise": Matrix.of(bundle("depthwise", S, ["n", 3], "gt", axes=[0, 1])),
}
every_matrix = pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)


def draw(seed, shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


@every_matrix
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_orthogonalized_against_singular_values(matrix, steps):
    momentum = draw(0, matrix.bundle.shape)
    found = BaseUpdate(orthogonal=steps, equal_rows=False).orthogonalized(momentum, matrix)
    expected = matrix.array(rough_polar_factor(matrix.view(momentum), steps))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@every_matrix
def test_rows_of_equal_size(matrix):
    momentum = draw(0, matrix.bundle.shape)
    found = BaseUpdate(equal_rows=True).orthogonalized(momentum, matrix)
    plain = matrix.view(BaseUpdate(equal_rows=False).orthogonalized(momentum, matrix))
    expected = plain / plain.square().mean(2, keepdim=True).sqrt()
    torch.testing.assert_close(matrix.view(found), expected)


@every_matrix
@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_orthogonalized_does_not_depend_on_the_size(matrix, scale):
    momentum = draw(1, matrix.bundle.shape)
    base_update = BaseUpdate(orthogonal=3)
    found = base_update.orthogonalized(scale * momentum, matrix)
    expected = base_update.orthogonalized(momentum, matrix)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_groups_are_orthogonalized_each_by_itself():
    matrix, base_update = MATRICES["groups"], BaseUpdate(orthogonal=3)
    momentum = draw(2, matrix.bundle.shape)
    other = momentum.clone()
    other[1] *= 1e3
    other[2] = 0
    before, after = (base_update.orthogonalized(m, matrix) for m in (momentum, other))
    torch.testing.assert_close(after[[0, 1, 3]], before[[0, 1, 3]])
    assert not after[2].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("matrix", [WIDE, TALL], ids=["wide", "tall"])
def test_silent_neurons_stay_silent(matrix, dtype):
    momentum = draw(3, matrix.bundle.shape, dtype)
    momentum[:, 1], momentum[:, :, 2] = 0, 0
    found = BaseUpdate(orthogonal=5).orthogonalized(momentum, matrix)
    assert torch.equal(found == 0, momentum == 0)


@every_matrix
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_is_orthogonalized_to_zero_with_finite_derivatives(matrix, dtype):
    momentum = torch.zeros(matrix.bundle.shape, dtype=dtype, requires_grad=True)
    found = BaseUpdate(orthogonal=5).orthogonalized(momentum, matrix)
    assert not found.any()
    (slope,) = torch.autograd.grad(found.sum(), momentum)
    assert slope.isfinite().all()
