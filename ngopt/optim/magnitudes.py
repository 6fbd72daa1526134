"""Largest magnitudes of gradients, to clip them and to find entries that are not finite."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ngopt.backends.cpu.c_functions import largest_of
from ngopt.backends.dispatch import minimizes_operations

SMALL = 2048
"""Number of entries up to which one slow operation is faster than three fast ones."""


def magnitudes(tensors: Sequence[Tensor]) -> Tensor:
    """Largest magnitude of each tensor, `(tensors,)`.

    Args:
        tensors: at least one, all on one device.

    Returns:
        0 for a tensor without entries; not finite if any entry is not.
    """
    found = largest_of(tensors)
    if found is not None:
        return found
    if minimizes_operations(tensors) and all(tensor.numel() for tensor in tensors):
        return torch.stack(torch._foreach_norm(list(tensors), math.inf))
    return torch.stack([largest(tensor) for tensor in tensors])


def all_finite(tensors: Mapping[str, Tensor]) -> Tensor:
    """Whether all entries of all tensors are finite, as a 0-dim bool tensor."""
    if not tensors:
        return torch.tensor(True)
    return torch.isfinite(magnitudes(list(tensors.values()))).all()


def largest(tensor: Tensor) -> Tensor:
    """Largest magnitude of the entries, 0-dim; 0 if there are none, not finite if any is not."""
    if not tensor.numel():
        return tensor.new_zeros(())
    tensor = tensor.detach()
    if tensor.numel() <= SMALL:
        size: Tensor = torch.linalg.vector_norm(tensor, math.inf)
        return size
    least, most = torch.aminmax(tensor)
    return torch.maximum(-least, most)
