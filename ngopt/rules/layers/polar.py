"""Rough orthogonalization that is cheap: few iterations, on products of rows with rows alone."""

import torch
from torch import Tensor

from ngopt.features.scale import EPS

COEFFICIENTS = ((6.408, -18.01, 13.153), (3.349, -3.297, 0.946))
"""Of the first quintic polynomial, and of all others. The two together bring numbers from 0.03 to 1
between 0.62 and 1.39, as near to 1 as two can, and multiply small ones by 21."""


def coefficients(step: int) -> tuple[float, float, float]:
    """Of the polynomial of an iteration."""
    return COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)]


def rough_polar_factor(matrices: Tensor, steps: int = 2) -> Tensor:
    r"""Bring the singular values of matrices near 1.

    Divides by the root of the Frobenius norm of :math:`A = XX^\top`, which the largest singular
    value does not exceed and which is nearer to it than the norm of :math:`X` is. Then iterates
    :math:`X \leftarrow aX + (bA + cA^2)X`; if there are more rows than columns, the same from the
    other side. All iterations are done on :math:`A`: for `m` rows and `n >= m` columns, two take
    `4 m^2 n + 10 m^3` operations, where three on :math:`X`, after which singular values are about
    as near to 1, take `12 m^2 n + 6 m^3`.

    Args:
        matrices: `(matrices, rows, columns)`, of a Frobenius norm of about 1; far below, a matrix
            counts as zero and becomes smaller.
        steps: number of iterations, at least 1.

    Returns:
        `(matrices, rows, columns)`.

    Source: iterations, Jordan et al., "Muon: An optimizer for hidden layers in neural networks",
    2024; a polynomial of its own for each, Amsel et al., "The Polar Express", 2025.
    """
    rows, columns = matrices.shape[1:]
    tall = rows > columns
    given = matrices.mT if tall else matrices
    gram = given @ given.mT
    inverse = torch.rsqrt(gram.square().sum((1, 2), keepdim=True) + EPS**2)
    gram = gram * inverse
    factor: Tensor | None = None
    for number in range(steps):
        a, b, c = coefficients(number)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        factor = polynomial if factor is None else polynomial @ factor
        if number < steps - 1:
            gram = polynomial @ gram @ polynomial
    assert factor is not None
    factor = factor * inverse.sqrt()
    return matrices @ factor.mT if tall else factor @ matrices
