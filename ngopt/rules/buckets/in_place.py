"""The same step in place: state and parameters keep their memory."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.backends.switch import capturing, known_at_once
from ngopt.rules.buckets import compiled
from ngopt.rules.buckets.entries import put
from ngopt.rules.buckets.look import Seen
from ngopt.rules.buckets.loops import Loops
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.buckets.step import Stepped
from ngopt.rules.rule import InPlaceOptions, State
from ngopt.rules.shards import Shards

if TYPE_CHECKING:
    from ngopt.rules.matrix_gnn import MatrixGNN


def step_buckets_in_place(
    rule: "MatrixGNN",
    plan: Plan,
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    state: State,
    options: InPlaceOptions,
    *,
    refresh: bool,
    shards: Shards | None = None,
) -> None:
    """Do a step; see :meth:`Rule.step_in_place`.

    Waits for no device. If a gradient is not finite, nothing changes.

    Args:
        rule: whose step it is.
        plan: of the parameters, all on one device.
        parameters: by name; these change.
        gradients: by name.
        state: by name of the parameter; it changes in place.
        options: learning rates, weight decay and factors of gradients.
        refresh: whether to recompute the graph context, or to use the cached one.
        shards: processes that share all this, if any do.
    """
    rates, kept, factors, finite, captured = options
    sure = known_at_once(finite)
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
    if shards is None:
        loops = compiled.loops_of(stepped, rule)
    else:
        loops = compiled.spread(rule, plan, shards, parameters, state)
        assert loops is not None
    if captured is not None:
        _prepare_capture(plan, loops, captured, finite.device)
    if loops is not None:
        seen = compiled.step(rule, stepped, loops, parameters, rates, kept, refresh=refresh)
        _remember(stepped, seen, state, finite)
        if seen is not None and stepped.stores:
            compiled.note(rule, stepped, loops)
        return
    seen = stepped.look() if refresh else stepped.recall()
    for bucket, entries, (direction, _, moments, _), size in stepped.results(seen):
        for tensors, moment in zip(stepped.given[2:], moments, strict=True):
            put(bucket, tensors, moment)
        entries.move(direction, size * bucket.of(rates), None if kept is None else bucket.of(kept))
    _remember(stepped, seen if refresh else None, state, finite)


def _prepare_capture(
    plan: Plan, loops: Loops | None, captured: list[object], device: torch.device
) -> None:
    """Make what CUDA graphs of such steps need, and keep what one needs that is captured now."""
    if loops is not None:
        loops.prepare_capture()
    if capturing(device):
        captured += [plan, loops]


def _remember(stepped: Stepped, seen: Seen | None, state: State, finite: Tensor) -> None:
    """Write what is known of whole parameters, and at a look what was seen, if all is finite."""
    plan, counts = stepped.plan, stepped.singles("step")
    sure = known_at_once(finite)  # nothing would be done if it were not
    if sure:
        torch._foreach_add_(counts, 1.0)
    else:
        counted = torch.where(finite, stepped.counts, stepped.counts - 1)
        torch._foreach_copy_(counts, list(counted[0].unbind()))
    if seen is None:
        return
    pairs = zip(plan.names, stepped.evidence(seen)[0].unbind(), strict=True)
    found = {name: evidence for name, evidence in pairs if plan.layouts[name].bundles}
    places, values = [state[name]["evidence"] for name in found], [*found.values()]
    if stepped.stores:
        places += stepped.contexts()
        values += [tensor[0] for tensor in seen.stored(plan)]
    if not sure:
        values = _chosen(finite, values, places)
    torch._foreach_copy_(places, values)


def _chosen(finite: Tensor, new: Sequence[Tensor], old: Sequence[Tensor]) -> list[Tensor]:
    """The new tensors if all gradients are finite, else the old ones."""
    after, before = (torch.cat([t.reshape(-1).to(new[0]) for t in ts]) for ts in (new, old))
    parts = torch.split(torch.where(finite, after, before), [tensor.numel() for tensor in old])
    return [part.view_as(tensor) for part, tensor in zip(parts, old, strict=True)]
