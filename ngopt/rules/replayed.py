"""Steps of rules without Python: recorded once for each graph, and replayed."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from ngopt.fused.switch import fusible
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.replay.replay import Replay
from ngopt.rules.rule import Change, Rule, State

LARGEST = 2**22
"""Number of entries up to which models are replayed: beyond, Python costs little beside the
arithmetic, and changes should not all be there at once."""

MOST = 2**10
"""Number of tensors up to which models are replayed: many are small and alike, and joined anyway,
and to record each would take a while."""

GRAPHS = 16
"""Number of graphs and functions of which recordings are kept, the last that were used."""


def changes(
    rule: Rule,
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    state: State,
    graph: NeuralGraph,
    *,
    fresh: bool = True,
) -> Iterator[Change]:
    """What :meth:`Rule.stream` or :meth:`Rule.follow` tells, replayed where that is possible.

    Where steps may be replayed, or parameters joined, a rule that is watched runs twice, once to
    tell what it decides, parameter by parameter, and once as always: watching changes nothing, to
    the last bit.

    Args:
        rule: the rule.
        parameters: as for :meth:`Rule.stream`.
        gradients: as for :meth:`Rule.stream`.
        state: as for :meth:`Rule.stream`.
        graph: as for :meth:`Rule.stream`.
        fresh: whether the rule looks at the whole model, or follows.
    """
    told = rule.stream if fresh else rule.follow
    twice = rule.watched and rule.replayable and not torch.is_grad_enabled()
    if twice:
        deque(told(parameters, gradients, state, graph), maxlen=0)
    if replays(rule, gradients):
        theta = dict(rule.named_parameters())
        step = replay(rule, graph, ("step", fresh), partial(_step, rule, graph, fresh))
        replayed = step(theta, dict(parameters), dict(gradients), dict(state))
        if replayed is not None:
            updates, after = replayed
            return (Change(name, updates[name], after[name]) for name in gradients)
    changed = told(parameters, gradients, state, graph)
    return _unwatched(rule, changed) if twice else changed


def replays(rule: Rule, gradients: Mapping[str, Tensor]) -> bool:
    """Whether a rule's steps on these gradients are replayed, if nothing in them forbids it."""
    small = sum(gradient.numel() for gradient in gradients.values()) <= LARGEST
    few = len(gradients) <= MOST
    return rule.replayable and small and few and fusible([*gradients.values()])


def replay(rule: Rule, graph: NeuralGraph, name: Hashable, function: Callable[..., Any]) -> Replay:
    """What replays a function of a rule and a graph; it is kept with the rule.

    Args:
        rule: the rule.
        graph: that the function is about.
        name: tells functions apart.
        function: recorded if it is not known under this name yet.
    """
    kept: dict[Any, tuple[NeuralGraph, Replay]] = rule.__dict__.setdefault("replays", {})
    key = id(graph), name
    kept[key] = kept.pop(key) if key in kept else (graph, Replay(function))
    while len(kept) > GRAPHS:
        del kept[next(iter(kept))]
    return kept[key][1]


def _step(
    rule: Rule, graph: NeuralGraph, fresh: bool, theta: dict[str, Tensor], *given: Any
) -> Any:
    # What is told in between is nothing to be recorded.
    with _quiet(rule):
        return functional_call(rule, theta, (*given, graph), {"fresh": fresh})


def _unwatched(rule: Rule, told: Iterator[Change]) -> Iterator[Change]:
    """The same changes, of which nobody is told."""
    while True:
        with _quiet(rule):
            change = next(told, None)
        if change is None:
            return
        yield change


@contextmanager
def _quiet(rule: Rule) -> Iterator[None]:
    """Tell nobody what a rule decides."""
    observer, rule.observer = rule.observer, None
    try:
        yield
    finally:
        rule.observer = observer
