"""Numbers of any magnitude as two of about one: logarithm and sign."""

import math

import torch
from torch import Tensor

LOG_SIGN = 2


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
