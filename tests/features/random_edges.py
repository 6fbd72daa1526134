"""Random arrays of a bundle, as after a few steps."""

import torch

from ngopt.features.entries import Edges
from ngopt.features.moments import init_moments, update_moments
from ngopt.features.strand import Strand

SHAPE = (2, 5, 3, 4)


def random_strand(seed=0, dtype=torch.float32, shape=SHAPE, keep=False):
    """A bundle at its next step, and its edges at that step."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator, dtype=dtype)
    state = init_moments(weight)
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator, dtype=dtype)
        before = state
        state, moments = update_moments(before, gradient)
    return Strand(weight, gradient, before, dtype, keep), Edges.of(weight, gradient, moments), state


def random_edges(seed=0, gradient_scale=1.0, weight_scale=1.0, dtype=torch.float32, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator, dtype=dtype)
    state = init_moments(weight, "float32")
    for _ in range(3):
        gradient = gradient_scale * torch.randn(shape, generator=generator, dtype=dtype)
        state, moments = update_moments(state, gradient)
    return Edges.of(weight_scale * weight, gradient, moments)
