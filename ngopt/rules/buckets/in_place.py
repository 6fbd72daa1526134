"""The same step in place: state and parameters keep their memory."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.rules.buckets import compiled
from ngopt.rules.buckets.entries import put
from ngopt.rules.buckets.look import Seen
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.buckets.step import CONTEXT, Stepped
from ngopt.rules.rule import Moves, State

if TYPE_CHECKING:
    from ngopt.rules.matrix_gnn import MatrixGNN


def step_in_place(
    rule: "MatrixGNN",
    plan: Plan,
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    state: State,
    moves: Moves,
    *,
    fresh: bool,
) -> None:
    """Do a step; see :meth:`Rule.move_in_place`.

    Waits for no device. If a gradient is not finite, nothing changes.

    Args:
        rule: whose step it is.
        plan: of the parameters, all on one device.
        parameters: by name; these change.
        gradients: by name.
        state: by name of the parameter; it changes in place.
        moves: how far they are moved.
        fresh: whether to look at the whole model, or to go by what was last seen of it.
    """
    rates, kept, factors, finite = moves
    sure = finite.device.type == "cpu"  # where nobody has to wait to know
    if sure and not finite:
        return
    stepped = Stepped(rule, plan, parameters, gradients, state, factors, None if sure else finite)
    rates = rates.to(stepped.dtype)
    kept = None if kept is None else kept.to(stepped.dtype)
    if not sure:
        rates = torch.where(finite, rates, 0.0)
        kept = None if kept is None else torch.where(finite, kept, 1.0)
    rates = stepped.of_bundles(rates).unsqueeze(0)
    kept = None if kept is None else stepped.of_bundles(kept).unsqueeze(0)
    loops = compiled.loops_of(stepped, rule) if sure else None
    if loops is not None:
        seen = compiled.step(rule, stepped, loops, parameters, rates, kept, fresh=fresh)
        _remember(stepped, seen, state, finite)
        if seen is not None and rule.refresh_every > 1:
            compiled.note(rule, stepped, loops)
        return
    seen = stepped.look() if fresh else stepped.recall()
    for bucket, _, entries, (direction, _, moments, _), size in stepped.results(seen):
        for tensors, moment in zip(stepped.given[2:], moments, strict=True):
            put(bucket, tensors, moment)
        entries.move(direction, size * bucket.of(rates), None if kept is None else bucket.of(kept))
    _remember(stepped, seen if fresh else None, state, finite)


def _remember(stepped: Stepped, seen: Sequence[Seen] | None, state: State, finite: Tensor) -> None:
    """Write what is known of whole parameters, and at a look what was seen, if all is finite."""
    names, counts = stepped.plan.names, stepped.singles("step")
    if finite.device.type == "cpu":  # where nothing would be done if it were not
        torch._foreach_add_(counts, 1.0)
    else:
        counted = torch.where(finite, stepped.counts, stepped.counts - 1)
        torch._foreach_copy_(counts, list(counted[0].unbind()))
    if not seen:
        return
    evidence = [state[name]["evidence"] for name in names if stepped.plan.layouts[name].bundles]
    pairs = zip(names, stepped.evidence(seen)[0].unbind(), strict=True)
    found = [tensor for name, tensor in pairs if stepped.plan.layouts[name].bundles]
    _copy_if(finite, evidence, found)
    for bucket, view in zip(stepped.plan.buckets, seen, strict=True):
        places = [
            stepped.parts(member.name, state[member.name][CONTEXT])[member.number]
            for member in bucket.members
            if CONTEXT in state[member.name]
        ]
        if places:
            _copy_if(finite, places, view.stored()[0].unbind())


def _copy_if(finite: Tensor, places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values to places if all gradients are finite."""
    stack = torch.stack(list(places))
    chosen = torch.where(finite, torch.stack(list(values)).to(stack), stack)
    torch._foreach_copy_(list(places), list(chosen.unbind()))
