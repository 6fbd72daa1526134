"""How the graph context is packed: the numbers cached in the state of each parameter."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ngopt.features.bundle_features import TENSOR_FEATURES
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.rules.buckets.bucket import Bucket

LARGE = 2**16
"""Number of entries of a bundle from which the size of its cached context matters."""


def is_stateless(bundle: Bundle, width: int) -> bool:
    """Whether a large bundle has fewer entries than the states of its neurons would have numbers.

    So have vectors, and matrices of a few columns. Their neurons, each with an entry or some, know
    hardly more than the entries do, but would take many times as much memory.

    Args:
        bundle: the bundle.
        width: size of a neuron's state; 0 if neurons have none.
    """
    group, out, into, _ = bundle.shape
    return bundle.numel >= LARGE and width * group * (out + into) > bundle.numel


def packed_size(bundles: Sequence[Bundle], width: int) -> int:
    """Number of cached numbers of some bundles; see :func:`packed_shapes`."""
    return sum(math.prod(shape) for bundle in bundles for shape in packed_shapes(bundle, width))


def packed_shapes(bundle: Bundle, width: int) -> list[tuple[int, ...]]:
    """Shapes of what is cached for a bundle, in the order of :class:`.GraphContext`.

    Args:
        bundle: the bundle.
        width: size of a neuron's state; 0 if neurons have none.
    """
    group, out, into, _ = bundle.shape
    neurons = width and not is_stateless(bundle, width)
    states = [(group, out, width), (group, into, width)] if neurons else []
    return [(group, out), (group, into), (), (), (), (TENSOR_FEATURES,), (), (), (), (), *states]


def context_sizes(buckets: Sequence[Bucket], width: int) -> list[int]:
    """Numbers in each field of the graph context of all buckets, in the order of its fields.

    Args:
        buckets: those with states of neurons come first.
        width: size of a neuron's state; 0 if neurons have none.
    """
    bundles = sum(len(bucket.members) for bucket in buckets)
    outputs, inputs = (buckets[-1].outputs.stop, buckets[-1].inputs.stop) if buckets else (0, 0)
    known = [bucket for bucket in buckets if width and not bucket.stateless]
    states = [known[-1].outputs.stop, known[-1].inputs.stop] if known else [0, 0]
    singles = [*[bundles] * 3, bundles * TENSOR_FEATURES, *[bundles] * 4]
    return [outputs, inputs, *singles, *(n * width for n in states)]


def packed_places(
    buckets: Sequence[Bucket], layouts: Mapping[str, Layout], width: int
) -> NDArray[np.int64]:
    """Index of each packed number, parameter by parameter, in the context, field by field.

    Args:
        buckets: of all bundles.
        layouts: of the parameters, by name, in the order in which they are packed.
        width: size of a neuron's state; 0 if neurons have none.
    """
    begin = [0, *accumulate(context_sizes(buckets, width))]
    found: dict[tuple[str, int], list[NDArray[np.int64]]] = {}
    for bucket in buckets:
        group, out, into, _ = bucket.shape
        for place, member in enumerate(bucket.members):
            rows = bucket.outputs.start + place * group * out, group * out
            columns = bucket.inputs.start + place * group * into, group * into
            single = bucket.start + place, 1, 1
            features = bucket.start + place, 1, TENSOR_FEATURES
            parts = [(*rows, 1), (*columns, 1), *[single] * 3, features, *[single] * 4]
            if width and not bucket.stateless:
                parts += [(*rows, width), (*columns, width)]
            found[member.name, member.number] = [
                np.arange(at + first * size, at + (first + number) * size)
                for at, (first, number, size) in zip(begin, parts, strict=False)
            ]
    ordered = [
        part
        for name, layout in layouts.items()
        for number in range(len(layout.bundles))
        for part in found[name, number]
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *ordered])
