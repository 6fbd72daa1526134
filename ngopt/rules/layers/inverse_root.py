"""Inverse square roots of covariance matrices."""

import torch
from torch import Tensor

EXACT = 128
"""Side up to which double precision costs little time on the CPU."""

LEAST = 1e-30
"""Largest eigenvalue below which a matrix counts as zero."""

ITERATIONS = 24
"""Number of Newton iterations, which is enough for a damping of 1e-6."""


def inverse_root(matrices: Tensor, damping: Tensor) -> Tensor:
    """Return `(A / a + damping) ** -1/2` for each matrix `A` with the largest eigenvalue `a`.

    It is computed by eigenvalues on the CPU, in double precision unless matrices are large. On CUDA
    devices it is computed by products of matrices, which take less time there and can be captured
    in CUDA graphs. It has no derivatives.

    Args:
        matrices: symmetric, without negative eigenvalues, `(matrices, side, side)`.
        damping: at least 1e-6, `(matrices,)`.

    Returns:
        Matrices of the same shape and dtype; multiples of the identity for matrices of zeros.
    """
    given = matrices.detach()
    if given.is_cuda or given.is_meta:
        return _by_products(given.double(), damping).to(matrices.dtype)
    given = given.cpu()  # other devices may have neither eigenvalues nor double precision
    exact = given.double() if given.shape[1] <= EXACT else given
    return _by_eigenvalues(exact, damping.to(exact)).to(matrices)


def _by_eigenvalues(matrices: Tensor, damping: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrices)
    largest = values[:, -1:].clamp(min=LEAST)
    factors = (values.clamp(min=0.0) / largest + damping[:, None]).rsqrt()
    found: Tensor = (vectors * factors.unsqueeze(1)) @ vectors.mT
    return found


def _by_products(matrices: Tensor, damping: Tensor) -> Tensor:
    """The same, with an estimate of the largest eigenvalue, by coupled Newton iterations.

    Source: Higham, "Functions of Matrices", 2008, section 6.3.
    """
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    damped = matrices / _largest(matrices) + damping[:, None, None] * identity
    # Not above 1, for the iterations to converge.
    bound = damped.square().sum((1, 2), keepdim=True).sqrt()
    product, inverse = damped / bound, identity.expand_as(damped)
    for _ in range(ITERATIONS):
        factor = 1.5 * identity - 0.5 * (inverse @ product)
        product, inverse = product @ factor, factor @ inverse
    return inverse * bound.rsqrt()


def _largest(matrices: Tensor) -> Tensor:
    """The largest eigenvalue, `(matrices, 1, 1)`, by repeated squaring."""
    power = matrices
    logarithm = matrices.new_zeros(len(matrices), 1, 1)
    for number in range(10):
        norm = power.square().sum((1, 2), keepdim=True).sqrt().clamp(min=LEAST)
        logarithm = logarithm + torch.log(norm) / 2**number
        power = power / norm
        power = power @ power
    return torch.exp(logarithm).clamp(min=LEAST)
