"""Scales of numbers: root mean squares, their ratios, logarithms; differentiable at zero."""

import math

import torch
from torch import Tensor

from ngopt.backends.dispatch import minimizes_operations

CPU_ENTRIES = 2**18
"""Entries of a block that fits a cache."""

EPS = 1e-8
"""Magnitude below which a number that was brought to about 1 counts as zero; always squared and
inside a root."""

LEAST = 1e-30
LEAST_WITH_DERIVATIVES = 1e-24
LEAST_OF_DOUBLES = 1e-36
"""Mean squares below which gradients count as zero. In half and single precision, squares are lost
from about 1e-40 on, and momenta are not: divided by so small a root, these must not become large,
also if a model was moved to double precision since. Where derivatives are computed, the power of
-1.5, which is that of :func:`root_inverse`, must be a number, too."""


def floored(square: Tensor) -> Tensor:
    """Return a mean of squares (any shape), or what is next to zero where it is less.

    Nothing is added to larger ones, so that what is divided by their roots does not depend on the
    scale of the loss at all.
    """
    if square.dtype == torch.float64:
        return torch.clamp_min(square, LEAST_OF_DOUBLES)
    least = LEAST_WITH_DERIVATIVES if torch.is_grad_enabled() else LEAST
    return torch.clamp_min(square, least)


def root_inverse(square: Tensor) -> Tensor:
    """Return `1 / sqrt(square)`, for a mean of squares (any shape); finite for 0."""
    return torch.rsqrt(floored(square))


def root(square: Tensor) -> Tensor:
    """Return the square root of a mean of squares (any shape); exactly 0 for 0."""
    return square * root_inverse(square)


def row_squares(matrices: Tensor) -> Tensor:
    """Mean of squares of each row, a block of rows at a time: all squares are never there at once.

    Args:
        matrices: `(matrices, rows, columns)`.

    Returns:
        `(matrices, rows, 1)`.
    """
    count, rows, columns = matrices.shape
    whole = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if minimizes_operations([matrices]) and not whole:
        norms: Tensor = torch.linalg.vector_norm(matrices, dim=2, keepdim=True)
        return norms.square() / columns
    height = rows if whole else max(1, CPU_ENTRIES // max(1, count * columns))
    if height >= rows:
        return matrices.square().mean(2, keepdim=True)
    return torch.cat(
        [b.square().mean(2, keepdim=True) for b in torch.split(matrices, height, 1)], 1
    )


def scaled(tensor: Tensor, factor: Tensor) -> Tensor:
    """Return `tensor * factor`, in the memory of the tensor where no derivative needs it any more.

    Fresh memory for a large result takes several times as long as the multiplication.
    """
    return tensor * factor if torch.is_grad_enabled() else tensor.mul_(factor)


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
    return torch.tanh((torch.log(floored(square)) - torch.log(floored(reference))) / 4)


LOG_SIGN = 2
"""Number of features that :func:`log_sign` makes of a number."""


def log_sign(x: Tensor, p: float = 10.0) -> Tensor:
    r"""Split numbers into magnitude and sign.

    .. math::
        x \mapsto (\log|x| / p,\ \mathrm{sign}\,x) \text{ if } |x| \ge e^{-p},
        \text{ else } (-1,\ e^p x)

    Args:
        x: any shape.
        p: how many powers of e below 1 still count as large.

    Returns:
        `(*x.shape, 2)`, continuous in `x`.

    Source: Andrychowicz et al., "Learning to learn by gradient descent by gradient descent",
    NeurIPS 2016, appendix A.
    """
    size = x.abs()
    threshold = math.exp(-p)
    # Clamped on both sides, so that the branch that is not taken has a finite derivative too.
    magnitude = torch.log(size.clamp(min=threshold)) / p
    sign = x.clamp(-threshold, threshold) * math.exp(p)
    return torch.stack([magnitude, sign], -1)
