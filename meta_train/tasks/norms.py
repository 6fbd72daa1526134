"""Normalisations by name; those over the batch always use the batch's own statistics."""

from collections.abc import Callable
from typing import TypeAlias

from torch import nn

from meta_train.spec import look_up

Norm: TypeAlias = Callable[[int], list[nn.Module]]
"""Makes the layers, one or none, that normalise so many neurons or channels."""

MAP_NORMS: dict[str, Norm] = {
    "none": lambda channels: [],
    "batch": lambda channels: [nn.BatchNorm2d(channels, track_running_stats=False)],
    "group": lambda channels: [nn.GroupNorm(4, channels)],
    "layer": lambda channels: [nn.GroupNorm(1, channels)],
}
"""Normalisations of maps (batch, channels, height, width)."""

VECTOR_NORMS: dict[str, Norm] = {
    "none": lambda width: [],
    "batch": lambda width: [nn.BatchNorm1d(width, track_running_stats=False)],
    "layer": lambda width: [nn.LayerNorm(width)],
}
"""Normalisations of vectors (batch, width)."""


def map_norm(name: str) -> Norm:
    """Find a normalisation of maps.

    Raises:
        MetaTrainError: if there is none of that name.
    """
    return look_up(MAP_NORMS, name, "normalisation of maps")


def vector_norm(name: str) -> Norm:
    """Find a normalisation of vectors.

    Raises:
        MetaTrainError: if there is none of that name.
    """
    return look_up(VECTOR_NORMS, name, "normalisation of vectors")
