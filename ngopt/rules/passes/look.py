"""A look at the whole model: surveys of bundles, and the states of neurons between them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ngopt.features.neurons import NOWHERE, Neurons, ends, neuron_features
from ngopt.features.survey import Survey
from ngopt.rules.alike import each, groups
from ngopt.rules.layers.messages import Link
from ngopt.rules.passes.part import Arrays, Part
from ngopt.rules.passes.passes import Passes
from ngopt.rules.passes.stored_view import thin

States = Mapping[Neurons, Tensor]
"""State of each neuron of each set, `(neurons, width)`."""


def surveyed(
    parts: Sequence[Part], passes: Callable[[Arrays], Passes]
) -> list[tuple[Survey, Tensor]]:
    """Survey bundles, those together that are alike.

    Args:
        parts: the bundles.
        passes: makes the passes over the entries of any bundle.

    Returns:
        The survey of each bundle, and the mean square of its base direction.
    """

    def survey(*arrays: Any) -> tuple[Survey, Tensor]:
        return passes(Arrays(*arrays)).survey()

    found: dict[int, tuple[Survey, Tensor]] = {}
    for same in groups((n, tree_leaves(part.arrays), None) for n, part in enumerate(parts)):
        if len(same) == 1:
            found[same[0]] = parts[same[0]].passes.survey()
        else:
            found.update(zip(same, each(survey, [parts[n].arrays for n in same]), strict=True))
    return [found[number] for number in range(len(parts))]


def neuron_states(
    parts: Sequence[Part],
    surveys: Sequence[Survey],
    sources: Tensor,
    start: Callable[[Tensor], Tensor],
    rounds: Iterable[Callable[[Sequence[Link], States], States]],
    *,
    statistics: bool,
) -> list[tuple[Tensor, ...]]:
    """Let neurons talk to one another along bundles.

    Args:
        parts: the bundles.
        surveys: of each of them.
        sources: for each, the state that stands for neurons at an end that has none, `(bundles,
            width)`.
        start: makes the first states of the features of neurons.
        rounds: each makes new states of the messages along the links between them.
        statistics: whether neurons start from statistics of their rows and columns.

    Returns:
        For each bundle the states of its output neurons, `(group, out, width)`, and of its input
        neurons, `(group, in, width)`; nothing for bundles too thin for that.
    """
    bundles, width = [part.bundle for part in parts], sources.shape[1]
    sides = [NOWHERE if thin(bundle, width) else ends(bundle) for bundle in bundles]
    features = neuron_features(zip(sides, surveys, strict=True))
    if not statistics:
        features = {neurons: torch.zeros_like(x) for neurons, x in features.items()}
    states: States = {neurons: torch.tanh(start(x)) for neurons, x in features.items()}
    links = [
        Link(side, part.passes, survey, source)
        for side, part, survey, source in zip(sides, parts, surveys, sources, strict=True)
    ]
    for mix in rounds:
        states = mix(links, states)
    return [
        () if link.ends is NOWHERE else (link.out_state(states), link.in_state(states))
        for link in links
    ]
