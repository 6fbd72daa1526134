"""A step of the default rule by compiled loops."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.backends.backend import backend_for
from ngopt.backends.kernel import CompileError
from ngopt.features.moments import Moments
from ngopt.rules.buckets.look import Look, Seen
from ngopt.rules.buckets.loops import Loops
from ngopt.rules.buckets.places import Piece
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.buckets.spread_loops import SpreadLoops
from ngopt.rules.buckets.step import CONTEXT, Stepped
from ngopt.rules.rule import ParameterUpdate, State
from ngopt.rules.shards import Shards, contiguous

if TYPE_CHECKING:
    from ngopt.rules.matrix_gnn import MatrixGNN


def loops_of(stepped: Stepped, rule: "MatrixGNN") -> Loops | None:
    """The loops that do a step, made if they are not there yet; None where there can be none."""
    plan, given = stepped.plan, stepped.given
    first = plan.names[0]
    dtypes = tuple(moments[first].dtype for moments in given[2:])
    backend = backend_for([given.weight[first], given.gradient[first]]) if plan.buckets else None
    if backend is None or stepped.dtype != torch.float32:
        return None
    if any(dtype not in (torch.float32, torch.bfloat16) for dtype in dtypes):
        return None
    if any(step.dtype != torch.float32 for step in stepped.singles("step")):
        return None
    runs = stepped.runs
    strides = {name: _strides(stepped, name, dtypes) for name in plan.names}
    if None in strides.values() and not backend.compiled:
        return None
    key = backend, runs, dtypes, tuple(strides.values())
    if key not in plan.loops:
        plan.loops.clear()
        how = rule.base_update, rule.head, rule.graph_context, dtypes, strides
        try:
            plan.loops[key] = Loops(backend, plan, given.weight[first].device, runs, *how)
        except CompileError as reason:
            backend.give_up(reason)
            return None
    found: Loops = plan.loops[key]
    return found


def spread(
    rule: "MatrixGNN", plan: Plan, shards: Shards, parameters: Mapping[str, Tensor], state: State
) -> Loops | None:
    """The same for parameters that processes share, which all have to ask for them.

    Args:
        rule: whose step it is.
        plan: of all parameters.
        shards: the processes.
        parameters: what this one holds of them.
        state: the same of the state.

    Returns:
        None if there can be none in one of the processes.
    """
    if shards not in plan.spread:
        found = _spread(rule, plan, shards, parameters, state)
        agreed = shards.agree(found is not None, parameters[plan.names[0]].device)
        plan.spread = {shards: found if agreed else None}
    made: Loops | None = plan.spread[shards]
    return made


def _spread(
    rule: "MatrixGNN", plan: Plan, shards: Shards, parameters: Mapping[str, Tensor], state: State
) -> Loops | None:
    given = [parameters[name] for name in plan.names]
    backend = backend_for(given) if plan.buckets else None
    dtypes = tuple(state[plan.names[0]][key].dtype for key in Moments._fields)
    alike = all(
        tuple(state[name][key].dtype for key in Moments._fields) == dtypes
        and all(state[name][key].stride() == parameters[name].stride() for key in Moments._fields)
        for name in plan.names
    )
    allowed = (torch.float32, torch.bfloat16)
    if backend is None or not alike or any(dtype not in allowed for dtype in dtypes):
        return None
    strides = {name: contiguous(layout.shape) for name, layout in plan.layouts.items()}
    how = rule.base_update, rule.head, rule.graph_context, dtypes, strides
    try:
        return SpreadLoops(shards, backend, plan, given[0].device, 1, *how)
    except CompileError as reason:
        backend.give_up(reason)
    except ValueError:  # memory is divided otherwise
        pass
    return None


def _strides(
    stepped: Stepped, name: str, dtypes: tuple[torch.dtype, ...]
) -> tuple[int, ...] | None:
    """Strides of a parameter, of one run; None unless its state lies as it does, in `dtypes`."""
    weight, _, *moments = (tensors[name] for tensors in stepped.given)
    lead = weight.dim() - len(stepped.plan.layouts[name].shape)
    own = weight.stride()[lead:]
    alike = weight.dtype == torch.float32 and all(
        moment.stride()[lead:] == own and moment.dtype == dtype
        for moment, dtype in zip(moments, dtypes, strict=True)
    )
    return own if alike else None


def step(
    rule: "MatrixGNN",
    stepped: Stepped,
    loops: Loops,
    target: Mapping[str, Tensor],
    rates: Tensor,
    kept: Tensor | None,
    *,
    refresh: bool,
) -> Seen | None:
    """Do a step: overwrite the moments, and move the target.

    Args:
        rule: whose step it is.
        stepped: the step.
        loops: that do it.
        target: what is moved, by name; the parameters, or others of their shapes and strides.
        rates: learning rates of the bundles, `(runs, bundles)`, or of all.
        kept: share of the target that stays, of the same shape; all by default.
        refresh: whether to recompute the graph context, or to use the cached one.

    Returns:
        What was seen, if it is not in the state yet.
    """
    _take(stepped, loops, target)
    numbers = loops.numbers
    numbers.rate.copy_(rates)
    numbers.kept.fill_(1.0) if kept is None else numbers.kept.copy_(kept)
    seen = None
    if refresh:
        seen = stepped.look(loops.survey())
    # Where nobody waits to know whether gradients are finite, what was said at a look that did not
    # count may be what is remembered.
    elif (
        rule.reports_diagnostics
        or stepped.finite is not None
        or not loops.knows([*stepped.contexts(), *rule.head.parameters()])
    ):
        seen = stepped.recall()
    if seen is not None:
        sizes = seen.decay, stepped.size(seen), seen.evidence
        loops.remember(stepped.squares(seen), *sizes, stepped.heard(seen))

    def tell(piece: Piece, corrections: Tensor) -> None:
        assert seen is not None
        for place, correction in zip(piece.members, corrections, strict=True):
            stepped.tell(piece.bucket, place, seen, correction[0])

    loops.run(rule.head, tell if rule.reports_diagnostics else None)
    if seen is not None and not refresh:
        note(rule, stepped, loops)
    return seen if refresh else None


def _take(stepped: Stepped, loops: Loops, target: Mapping[str, Tensor]) -> None:
    """Give loops what a step is given."""
    loops.take(stepped.given, target, stepped.singles("step"))
    numbers = loops.numbers
    if stepped.finite is not None:
        numbers.finite.copy_(stepped.finite)
    numbers.factor.fill_(1.0) if stepped.factors is None else numbers.factor.copy_(stepped.factors)


def look(rule: "MatrixGNN", stepped: Stepped) -> Look:
    """Look at all bundles, with derivatives with respect to theta alone, and step nowhere."""
    with torch.no_grad():
        loops = loops_of(stepped, rule)
        if loops is None:
            survey = stepped.survey()
        else:
            _take(stepped, loops, stepped.given.weight)
            survey = loops.survey(differentiable=True)
    return stepped.looking(survey)


def note(rule: "MatrixGNN", stepped: Stepped, loops: Loops) -> None:
    """Note that what the loops remember is what is in the state now."""
    loops.note([*stepped.contexts(), *rule.head.parameters()])


def changed(
    rule: "MatrixGNN", stepped: Stepped, loops: Loops, state: State, *, refresh: bool
) -> Iterator[ParameterUpdate]:
    """What changes of each parameter.

    Args:
        rule: whose step it is.
        stepped: the step, of a state whose moments may be overwritten.
        loops: that do it.
        state: that state.
        refresh: whether to recompute the graph context, or to use the cached one.
    """
    plan, weights = stepped.plan, stepped.given.weight
    updates = {name: torch.zeros_like(weights[name], dtype=torch.float32) for name in plan.names}
    rates = -torch.ones((), device=weights[plan.names[0]].device)
    seen = step(rule, stepped, loops, updates, rates, None, refresh=refresh)
    evidence = None if seen is None else stepped.evidence(seen)
    contexts = seen.stored(plan) if seen is not None and stepped.stores else None
    runs = weights[plan.names[0]].dim() > len(plan.layouts[plan.names[0]].shape)
    for number, name in enumerate(plan.names):
        after = dict(state[name])
        after["step"] = after["step"] + 1
        if evidence is not None and plan.layouts[name].bundles:
            own = evidence[:, number]
            after["evidence"] = (own if runs else own[0]).to(after["evidence"])
        if contexts is not None:
            after[CONTEXT] = contexts[number] if runs else contexts[number][0]
        yield ParameterUpdate(name, updates[name].to(weights[name].dtype), after)


def changes(
    rule: "MatrixGNN",
    plans: Sequence[Plan],
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    state: State,
    *,
    refresh: bool,
) -> Iterator[ParameterUpdate]:
    """What changes of all parameters, by compiled loops where there can be any.

    Args:
        rule: whose step it is.
        plans: of the parameters; those of different plans exchange no messages.
        parameters: as for :meth:`Rule.updates`.
        gradients: as for :meth:`Rule.updates`.
        state: as for :meth:`Rule.updates`.
        refresh: whether to recompute the graph context, or to use the cached one.
    """
    for plan in plans:
        stepped = Stepped(rule, plan, parameters, gradients, state)
        if loops_of(stepped, rule) is None:
            yield from stepped.changes(stepped.look() if refresh else stepped.recall())
            continue
        own = {n: state[n] | {k: state[n][k].clone() for k in Moments._fields} for n in plan.names}
        stepped = Stepped(rule, plan, parameters, gradients, own)
        loops = loops_of(stepped, rule)
        assert loops is not None
        yield from changed(rule, stepped, loops, own, refresh=refresh)
