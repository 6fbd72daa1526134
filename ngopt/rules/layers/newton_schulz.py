"""Orthogonalization of matrices by products of matrices alone."""

from collections.abc import Callable

import torch
from torch import Tensor

Coefficients = tuple[float, float, float]

COEFFICIENTS: Coefficients = (3.4445, -4.7750, 2.0315)
"""Of the quintic polynomial: the slope at zero is as large as it can be."""


def orthogonalize(
    matrices: Tensor,
    steps: int = 5,
    coefficients: Coefficients = COEFFICIENTS,
    eps: float = 1e-7,
) -> Tensor:
    r"""Bring all singular values of matrices near 1, between about 0.7 and 1.2.

    Divides by the Frobenius norm, then iterates
    :math:`X \leftarrow aX + (bA + cA^2)X` with :math:`A = XX^\top`, on the transpose of a tall
    matrix. The operations on a lone matrix and their order are those of `torch.optim.Muon`, so
    that the results agree to the last bit in bfloat16 too.

    A small singular value grows by the factor `a` in each step, and rounding errors with it: by
    about 500 in the default 5 steps. Results that must be right to single precision need inputs
    in double precision.

    Args:
        matrices: `(..., rows, columns)`, any floating dtype, in which everything is computed.
        steps: number of iterations.
        coefficients: `a`, `b` and `c`.
        eps: norm below which a matrix counts as zero; a zero matrix stays zero.

    Returns:
        `(..., rows, columns)`.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = coefficients
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    norm = torch.linalg.vector_norm(wide, dim=(-2, -1), keepdim=True)
    x = (wide / norm.clamp(min=eps)).reshape(-1, *wide.shape[-2:])
    multiply_add: Callable[..., Tensor] = torch.baddbmm
    if len(x) == 1:  # in bfloat16, a stack of one and a matrix are not always rounded alike
        x, multiply_add = x[0], torch.addmm
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = multiply_add(gram, gram, gram, beta=b, alpha=c)
        x = multiply_add(x, polynomial, x, beta=a)
    result: Tensor = x.reshape(wide.shape)
    return result.mT if tall else result
