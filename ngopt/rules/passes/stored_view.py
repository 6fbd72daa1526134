"""What is seen of bundles as a vector, to be stored between two looks at the whole model."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ngopt.features.entries import Scales
from ngopt.features.tensors import TENSOR_FEATURES
from ngopt.graph.bundle import Bundle
from ngopt.rules.passes.passes import View

LARGE = 2**16
"""Number of entries of a bundle from which it matters how much is stored of it."""


def thin(bundle: Bundle, width: int) -> bool:
    """Whether a large bundle has fewer entries than the states of its neurons have numbers.

    So have vectors, and matrices of a few columns. Their neurons, each with an entry or some, have
    next to nothing to tell that the entries do not, but would take many times as much memory.
    """
    group, out, into, _ = bundle.shape
    return bundle.numel >= LARGE and width * group * (out + into) > bundle.numel


def stored(views: Sequence[View]) -> Tensor:
    """All numbers of the views of a parameter's bundles, one after the other, `(numbers,)`."""
    return torch.cat([tensor.reshape(-1) for view in views for tensor in _tensors(view)])


def recalled(vector: Tensor, bundles: Sequence[Bundle], width: int) -> list[View]:
    """Inverse of :func:`stored`: the view of each bundle.

    Args:
        vector: what it returned, or as many zeros; :func:`count` says how many.
        bundles: of the parameter.
        width: size of a neuron's state; 0 if neurons have none.
    """
    views, at = [], 0
    for bundle in bundles:
        tensors = []
        for shape in shapes(bundle, width):
            size = math.prod(shape)
            tensors.append(vector[at : at + size].view(shape))
            at += size
        rows, columns, fast, weight, base, context, scale, evidence, *neurons = tensors
        scales = Scales.of_factors(rows, columns, fast, weight, base)
        views.append(View(scales, context, scale, evidence, tuple(neurons)))
    return views


def count(bundles: Sequence[Bundle], width: int) -> int:
    """How many numbers are stored; see :func:`recalled`."""
    return sum(math.prod(shape) for bundle in bundles for shape in shapes(bundle, width))


def _tensors(view: View) -> list[Tensor]:
    scales = view.scales
    numbers = [*scales.factors, scales.fast, scales.weight, scales.base]
    return [*numbers, view.context, view.scale, view.evidence, *view.neurons]


def shapes(bundle: Bundle, width: int) -> list[tuple[int, ...]]:
    """Shapes of the numbers of a bundle's view, in the order in which they are stored."""
    group, out, into, _ = bundle.shape
    neurons = width and not thin(bundle, width)
    states = [(group, out, width), (group, into, width)] if neurons else []
    return [(group, out), (group, into), (), (), (), (TENSOR_FEATURES,), (), (), *states]
