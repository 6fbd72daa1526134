"""Rough orthogonalization that is cheap: few iterations, on products of rows with rows alone."""

import math

import torch
from torch import Tensor

from ngopt.features.scale import EPS

COEFFICIENTS = (
    (6.408, -18.01, 13.153),
    (3.349, -3.297, 0.946),
    (2.0527, -1.4301, 0.3896),
)
"""Of the quintic polynomials, the last for all later iterations. The first two bring numbers from
0.03 to 1 between 0.62 and 1.39, as near to 1 as two can, and multiply small ones by 21; the third
brings those between 0.96 and 1.04."""


SCALE, FACTOR, LEAST = 2.0**7, 2.0**5, 1e-3
"""In half precision: by what matrices and their factor are multiplied, so that small rows are not
lost and nothing is beyond 65504, and a Frobenius norm of products that counts as zero."""

MOST_STEPS = 3
"""Number of iterations up to which that holds."""

WORTH = 2**28
"""Multiplications of rows with rows from which half precision saves more time than it takes to
convert, as estimated."""


def coefficients(step: int) -> tuple[float, float, float]:
    """Of the polynomial of an iteration."""
    return COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)]


def rough_polar_factor(matrices: Tensor, steps: int = 2, damping: float = 0.0) -> Tensor:
    r"""Bring the singular values of matrices near 1.

    Divides by the root of the Frobenius norm of :math:`A = XX^\top`, which the largest singular
    value does not exceed and which is nearer to it than the norm of :math:`X` is. Then iterates
    :math:`X \leftarrow aX + (bA + cA^2)X`; if there are more rows than columns, the same from the
    other side. All iterations are done on :math:`A`: for `m` rows and `n >= m` columns, two take
    `4 m^2 n + 10 m^3` operations, where three on :math:`X`, after which singular values are about
    as near to 1, take `12 m^2 n + 6 m^3`. On GPUs, products of large matrices are in half
    precision where nobody asks for derivatives; see :func:`in_half_precision`.

    Args:
        matrices: `(matrices, rows, columns)`, of a Frobenius norm of about 1; far below, a matrix
            counts as zero and becomes smaller.
        steps: number of iterations, at least 1.
        damping: what is added to the squares of singular values in :math:`A`, in units of their
            mean. Singular values far below the root of that keep their proportions.

    Returns:
        `(matrices, rows, columns)`.

    Source: iterations, Jordan et al., "Muon: An optimizer for hidden layers in neural networks",
    2024; a polynomial of its own for each, Amsel et al., "The Polar Express", 2025.
    """
    if half_is_worthwhile(matrices, steps):
        return in_half_precision(matrices, steps, damping)
    gram = _damped(_gram(matrices), damping)
    inverse = _inverse(gram, EPS)
    return _applied(_factor(gram * inverse, steps) * inverse.sqrt(), matrices)


def half_is_worthwhile(matrices: Tensor, steps: int) -> bool:
    """Whether products are in half precision: on GPUs, of large matrices, without derivatives."""
    number, *sides = matrices.shape
    return (
        matrices.device.type == "cuda"
        and matrices.dtype == torch.float32
        and not torch.is_grad_enabled()
        and steps <= MOST_STEPS
        and number * min(sides) * math.prod(sides) >= WORTH
    )


def in_half_precision(
    matrices: Tensor, steps: int = 2, damping: float = 0.0, dtype: torch.dtype = torch.float16
) -> Tensor:
    """Do the same by products of matrices in half precision, which are added up in float32.

    The direction is off by some tenths of a per cent, after three iterations of an ill-conditioned
    matrix by one.

    Args:
        matrices: as for :func:`rough_polar_factor`.
        steps: number of iterations, at most :data:`MOST_STEPS`.
        damping: as there.
        dtype: of the products; with bfloat16 the direction would be off by 2 %.

    Returns:
        `(matrices, rows, columns)`, of the dtype given.
    """
    given = (matrices * SCALE).to(dtype)
    gram = _damped(_gram(given).to(matrices.dtype) * SCALE**-2, damping)
    inverse = _inverse(gram, LEAST)
    factor = _factor((gram * inverse).to(dtype), steps).to(matrices.dtype)
    result = _applied((factor * (inverse.sqrt() * FACTOR)).to(dtype), given)
    return result.to(matrices.dtype) * (1 / (SCALE * FACTOR))


def _gram(matrices: Tensor) -> Tensor:
    """Products of rows with rows, or of columns with columns, whichever are fewer."""
    given = matrices.mT if _tall(matrices) else matrices
    return given @ given.mT


def _damped(gram: Tensor, damping: float) -> Tensor:
    """Add a share of the mean of the eigenvalues to all of them."""
    if not damping:
        return gram
    diagonal = gram.diagonal(dim1=1, dim2=2)
    return gram + torch.diag_embed((damping * diagonal.mean(1, keepdim=True)).expand_as(diagonal))


def _inverse(gram: Tensor, least: float) -> Tensor:
    """One over the Frobenius norm, `(matrices, 1, 1)`."""
    return torch.rsqrt(gram.square().sum((1, 2), keepdim=True) + least**2)


def _factor(gram: Tensor, steps: int) -> Tensor:
    """What all iterations multiply matrices by, given products of a Frobenius norm of 1."""
    factor: Tensor | None = None
    for number in range(steps):
        a, b, c = coefficients(number)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        factor = polynomial if factor is None else polynomial @ factor
        if number < steps - 1:
            gram = polynomial @ gram @ polynomial
    assert factor is not None
    return factor


def _applied(factor: Tensor, matrices: Tensor) -> Tensor:
    return matrices @ factor.mT if _tall(matrices) else factor @ matrices


def _tall(matrices: Tensor) -> bool:
    return matrices.shape[1] > matrices.shape[2]
