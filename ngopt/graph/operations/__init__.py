"""What torch's functions do to axes: one small handler per function.

To add one, see `ngopt.graph.operations.registry`; users register their own with
:func:`ngopt.register_operation`.
"""

from ngopt.graph.operations import (
    attention,
    contraction,
    convolution,
    creation,
    elementwise,
    indexing,
    joining,
    loss,
    normalization,
    ordering,
    recurrent,
    reduction,
    shape,
)

__all__ = [
    "attention",
    "contraction",
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "joining",
    "loss",
    "normalization",
    "ordering",
    "recurrent",
    "reduction",
    "shape",
]
