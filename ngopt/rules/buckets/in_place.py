"""The same step in place: state and parameters keep their memory."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.features.moments import Moments
from ngopt.features.scale import scaled
from ngopt.rules.buckets.look import Seen
from ngopt.rules.buckets.plan import Bucket, Plan
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
    stepped = Stepped(rule, plan, parameters, gradients, state, factors, finite)
    seen = stepped.look() if fresh else stepped.recall()
    dtype = stepped.dtype
    rates = stepped.of_bundles(torch.where(finite, rates, 0.0).to(dtype))
    if kept is not None:
        kept = stepped.of_bundles(torch.where(finite, kept, 1.0).to(dtype))
    for bucket, _, (direction, size, moments, weight) in stepped.results(seen):
        update = scaled(direction, size * bucket.wide(rates))
        if kept is not None:
            weight = weight * bucket.wide(kept)
        _put(bucket, parameters, weight - update)
        for key, moment in zip(Moments._fields, moments, strict=True):
            _put(bucket, {m.name: state[m.name][key] for m in bucket.members}, moment)
    _remember(stepped, seen, state, finite, fresh)


def _put(bucket: Bucket, tensors: Mapping[str, Tensor], arrays: Tensor) -> None:
    """Write the arrays of the members where they are in tensors."""
    places = [member.bundle.unfold(tensors[member.name]) for member in bucket.members]
    pairs = zip(bucket.members, arrays[0], strict=True)
    torch._foreach_copy_(places, [member.bundle.fold(array) for member, array in pairs])


def _remember(
    stepped: Stepped, seen: Sequence[Seen], state: State, finite: Tensor, fresh: bool
) -> None:
    """Write what is known of whole parameters, and at a look what was seen, if all is finite."""
    names = stepped.plan.names
    counts = [state[name]["step"] for name in names]
    counted = torch.where(finite, stepped.counts, stepped.counts - 1)
    torch._foreach_copy_(counts, list(counted.unbind()))
    if not (fresh and seen):
        return
    evidence = [state[name]["evidence"] for name in names if stepped.plan.layouts[name].bundles]
    pairs = zip(names, stepped.evidence(seen), strict=True)
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
