"""Plain sums of gradients with several decays, as the paper of neural graphs feeds to its nets."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ngopt.features.moments import compute_dtype

DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)


def init_momenta(parameter: Tensor) -> dict[str, Tensor]:
    """Zero momenta, shaped like the parameter, by names `momentum0` to `momentum4`."""
    zeros = torch.zeros_like(parameter, dtype=compute_dtype(parameter), requires_grad=False)
    return {f"momentum{number}": zeros.clone() for number in range(len(DECAYS))}


def update_momenta(state: Mapping[str, Tensor], gradient: Tensor) -> dict[str, Tensor]:
    r"""Take one gradient in: :math:`m \leftarrow \beta m + g`, without bias correction.

    Args:
        state: what :func:`init_momenta` or the last call returned; left as it is.
        gradient: of the parameter's shape.
    """
    return {
        f"momentum{number}": torch.add(gradient, state[f"momentum{number}"], alpha=decay)
        for number, decay in enumerate(DECAYS)
    }
