"""Root mean squares and their ratios, finite and differentiable at zero."""

import torch
from torch import Tensor

EPS = 1e-8
"""Magnitude below which a number counts as zero; always squared and inside a root."""


def root_inverse(square: Tensor) -> Tensor:
    """Return `1 / sqrt(square + EPS**2)`, for a mean of squares (any shape)."""
    return torch.rsqrt(square + EPS**2)


def root(square: Tensor) -> Tensor:
    """Return the square root of a mean of squares (any shape); exactly 0 for 0."""
    return square * root_inverse(square)


def rms(tensor: Tensor) -> Tensor:
    """Root mean square over all entries, 0-dim; exactly 0 for a zero tensor."""
    return root(tensor.square().mean())


def unit(tensor: Tensor) -> Tensor:
    """Divide a tensor by its root mean square; a zero tensor stays zero."""
    return tensor * root_inverse(tensor.square().mean())


def log_ratio(square: Tensor, reference: Tensor) -> Tensor:
    """Bounded logarithm of a ratio of root mean squares.

    Args:
        square: mean of squares, any shape.
        reference: mean of squares to compare with; broadcasts.

    Returns:
        `tanh(log(sqrt(square / reference)) / 2)`, between -1 and 1; 0 where both are 0.
    """
    return torch.tanh((torch.log(square + EPS**2) - torch.log(reference + EPS**2)) / 4)
