"""The sets of neurons that bundles connect."""

from typing import NamedTuple

from ngopt.graph.bundle import Bundle

Neurons = tuple[str, ...]
"""A set of neurons: the names of the spaces whose product it is."""

STATISTICS = 4
NEURON_FEATURES = 2 * STATISTICS
"""Statistics as an output of bundles, then as an input of bundles."""


class Ends(NamedTuple):
    """The sets of neurons that a bundle connects; an end without neurons is empty.

    Args:
        out: set of the `group * out` output neurons.
        into: set of the `group * in` input neurons.
    """

    out: Neurons
    into: Neurons


NOWHERE = Ends((), ())
"""Of a bundle that connects no neurons."""


def ends(bundle: Bundle) -> Ends:
    """Return the sets of neurons at both ends of a bundle."""
    group, outputs, inputs, _ = bundle.shape
    return Ends(
        _whole(bundle, bundle.out_neurons, group * outputs),
        _whole(bundle, bundle.in_neurons, group * inputs),
    )


def _whole(bundle: Bundle, neurons: Neurons, count: int) -> Neurons:
    # A free dimension among the outputs or inputs leaves an end that is not a set of neurons.
    sizes = dict(zip(bundle.factors, bundle.sizes, strict=True))
    for name in neurons:
        count //= sizes[name]
    return neurons if count == 1 else ()
