"""Steps of rules without Python: recorded once for each graph, and replayed."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.func import functional_call

from ngopt.fused.switch import fusible
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.replay.replay import Replay
from ngopt.rules.cohorts import Cohorts
from ngopt.rules.rule import Change, Rule, State

LARGEST = 2**22
"""Number of entries up to which models are replayed: beyond, Python costs little beside the
arithmetic, and changes should not all be there at once."""

MOST = 2**10
"""Number of tensors up to which models are replayed: many are small and alike, and joined anyway,
and to record each would take a while."""

GRAPHS = 24
"""Number of graphs and functions of which recordings are kept, the last that were used."""

Kept = TypeVar("Kept")


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
    found = _replayed(rule, parameters, gradients, state, graph, fresh)
    if found is None:
        found = told(parameters, gradients, state, graph)
    return _unwatched(rule, found) if twice else found


def _replayed(
    rule: Rule,
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    state: State,
    graph: NeuralGraph,
    fresh: bool,
) -> Iterator[Change] | None:
    """Replay a step, as a whole or in parts; None if it is not replayed."""
    if not replays(rule, gradients):
        return None
    given, function = (parameters, gradients, state), partial(_step, rule, graph, fresh)
    if rule.refresh_every > 1:
        cohorts = kept(rule, graph, "cohorts", Cohorts).of(gradients)
        due = {name: parameters[name] for name in gradients}
        if not fresh and len(cohorts) > 1 and rule.follows_apart(due, state, graph):
            few = partial(Replay, function, kept=2 * MOST, eager=2 * MOST)
            return _apart(kept(rule, graph, "apart", few), rule, given, graph, cohorts)
    whole = _whole(replay(rule, graph, ("step", fresh), function), rule, given)
    return None if whole is None else iter(whole)


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
    return kept(rule, graph, name, lambda: Replay(function))


def kept(rule: Rule, graph: NeuralGraph, name: Hashable, make: Callable[[], Kept]) -> Kept:
    """Something about a rule and a graph, made if it is not there yet."""
    known: dict[Any, tuple[NeuralGraph, Any]] = rule.__dict__.setdefault("replays", {})
    key = id(graph), name
    known[key] = known.pop(key) if key in known else (graph, make())
    while len(known) > GRAPHS:
        del known[next(iter(known))]
    found: Kept = known[key][1]
    return found


def _whole(step: Replay, rule: Rule, given: Sequence[Mapping[str, Any]]) -> list[Change] | None:
    """Replay a step; None if that cannot be, or costs more than it saves."""
    names = given[1]
    replayed = step(dict(rule.named_parameters()), *({n: part[n] for n in names} for part in given))
    if replayed is None:
        return None
    updates, after = replayed
    return [Change(name, updates[name], after[name]) for name in names]


def _apart(
    step: Replay,
    rule: Rule,
    given: Sequence[Mapping[str, Any]],
    graph: NeuralGraph,
    cohorts: Iterable[Iterable[str]],
) -> Iterator[Change]:
    """Replay the steps of parameters that always come together, whatever else comes with them."""
    for names in cohorts:
        parameters, gradients, state = ({name: part[name] for name in names} for part in given)
        replayed = _whole(step, rule, (parameters, gradients, state))
        if replayed is None:
            yield from rule.follow(parameters, gradients, state, graph)
        else:
            yield from replayed


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
