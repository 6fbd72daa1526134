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
    return inverse_root_and_largest(matrices, damping)[0]


def inverse_root_and_largest(matrices: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """The same, and the largest eigenvalues, `(matrices, 1, 1)`: nearly, on CUDA devices."""
    given = matrices.detach()
    if given.is_cuda or given.is_meta:
        found = _by_products(given.double(), damping)
    else:
        given = given.cpu()  # other devices may have neither eigenvalues nor double precision
        exact = given.double() if given.shape[1] <= EXACT else given
        found = _by_eigenvalues(exact, damping.to(exact))
    root, largest = (tensor.to(matrices) for tensor in found)
    return root, largest


def _by_eigenvalues(matrices: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrices)
    largest = values[:, -1:].clamp(min=LEAST)
    factors = (values.clamp(min=0.0) / largest + damping[:, None]).rsqrt()
    return (vectors * factors.unsqueeze(1)) @ vectors.mT, largest.unsqueeze(2)


def _by_products(matrices: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """The same, with an estimate of the largest eigenvalue, by coupled Newton iterations.

    Source: Higham, "Functions of Matrices", 2008, section 6.3.
    """
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    largest = largest_eigenvalue(matrices)
    damped = matrices / largest + damping[:, None, None] * identity
    # Not above 1, for the iterations to converge.
    bound = damped.square().sum((1, 2), keepdim=True).sqrt()
    product, inverse = damped / bound, identity.expand_as(damped)
    for _ in range(ITERATIONS):
        factor = 1.5 * identity - 0.5 * (inverse @ product)
        product, inverse = product @ factor, factor @ inverse
    return inverse * bound.rsqrt(), largest


def largest_eigenvalue(matrices: Tensor) -> Tensor:
    """The largest eigenvalue, nearly, by repeated squaring.

    Args:
        matrices: as for :func:`inverse_root`.

    Returns:
        `(matrices, 1, 1)`, at least :data:`LEAST`.
    """
    power = matrices
    logarithm = matrices.new_zeros(len(matrices), 1, 1)
    for number in range(10):
        norm = power.square().sum((1, 2), keepdim=True).sqrt().clamp(min=LEAST)
        logarithm = logarithm + torch.log(norm) / 2**number
        power = power / norm
        power = power @ power
    return torch.exp(logarithm).clamp(min=LEAST)
