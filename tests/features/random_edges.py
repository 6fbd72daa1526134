"""Random arrays of a bundle, as after a few steps."""

import torch

from ngopt.features.entry_features import Edges
from ngopt.features.moments import init_moments, update_moments

SHAPE = (2, 5, 3, 4)


def random_edges(seed=0, gradient_scale=1.0, weight_scale=1.0, dtype=torch.float32, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator, dtype=dtype)
    state = init_moments(weight, "float32")
    for _ in range(3):
        gradient = gradient_scale * torch.randn(shape, generator=generator, dtype=dtype)
        state, moments = update_moments(state, gradient)
    return Edges.of(weight_scale * weight, gradient, moments)
