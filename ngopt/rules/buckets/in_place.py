"""A step of the default rule in place: state and parameters keep their memory."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.backends.dispatch import capturing, is_free_to_read
from ngopt.rules.buckets import compiled_step
from ngopt.rules.buckets.bucket_entries import write_arrays
from ngopt.rules.buckets.bucket_step import BucketStep
from ngopt.rules.buckets.compiled_loops import CompiledLoops
from ngopt.rules.buckets.context import GraphContext
from ngopt.rules.buckets.plan import Plan
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
    """Do a step in place; see :meth:`Rule.step_in_place`.

    Waits for no device. If a gradient is not finite, nothing changes.

    Args:
        rule: whose step it is.
        plan: of the parameters, all on one device.
        parameters: by name; these change.
        gradients: by name.
        state: by name of the parameter; it changes in place.
        options: learning rates, weight decay and factors of gradients.
        refresh: whether to recompute the graph context, or to use the cached one.
        shards: processes over which all tensors are sharded, if any.
    """
    rates, kept, factors, finite, captured = options
    free_to_read = is_free_to_read(finite)
    if free_to_read and not finite:
        return
    step = BucketStep(
        rule, plan, parameters, gradients, state, factors, None if free_to_read else finite
    )
    rates = rates.to(step.dtype)
    kept = None if kept is None else kept.to(step.dtype)
    if not free_to_read:
        rates = torch.where(finite, rates, 0.0)
        kept = None if kept is None else torch.where(finite, kept, 1.0)
    rates = step.to_bundles(rates).unsqueeze(0)
    kept = None if kept is None else step.to_bundles(kept).unsqueeze(0)
    if shards is None:
        loops = compiled_step.compiled_loops_for(step, rule)
    else:
        loops = compiled_step.sharded_loops_for(rule, plan, shards, parameters, state)
        assert loops is not None
    if captured is not None:
        _prepare_capture(plan, loops, captured, finite.device)
    if loops is not None:
        context = compiled_step.run_step(
            rule, step, loops, parameters, rates, kept, refresh=refresh
        )
        _write_state(step, context, state, finite)
        if context is not None and step.caches_context:
            compiled_step.mark_context(rule, step, loops)
        return
    context = step.new_context() if refresh else step.cached_context()
    for bucket, entries, (direction, _, moments, _), size in step.corrected_directions(
        context, refresh=refresh
    ):
        for tensors, moment in zip(step.tensors[2:], moments, strict=True):
            write_arrays(bucket, tensors, moment)
        entries.update_weights(
            direction, size * bucket.select(rates), None if kept is None else bucket.select(kept)
        )
    _write_state(step, context if refresh else None, state, finite)


def _prepare_capture(
    plan: Plan, loops: CompiledLoops | None, captured: list[object], device: torch.device
) -> None:
    """Prepare what CUDA graphs of such steps need; in a capture, keep it alive."""
    if loops is not None:
        loops.prepare_capture()
    if capturing(device):
        captured += [plan, loops]


def _write_state(
    step: BucketStep, context: GraphContext | None, state: State, finite: Tensor
) -> None:
    """Write step counts, evidence and, after a refresh, the context, if all is finite."""
    plan, counts = step.plan, step.state_tensors("step")
    free_to_read = is_free_to_read(finite)  # if it were not finite, this would not run
    if free_to_read:
        # With a number, torch would make a tensor of it for each of the counts.
        torch._foreach_add_(counts, counts[0].new_ones(()), alpha=1)
    else:
        counted = torch.where(finite, step.counts, step.counts - 1)
        torch._foreach_copy_(counts, list(counted[0].unbind()))
    if context is None:
        return
    pairs = zip(plan.names, step.mean_evidence(context)[0].unbind(), strict=True)
    found = {name: evidence for name, evidence in pairs if plan.layouts[name].bundles}
    places, values = [state[name]["evidence"] for name in found], [*found.values()]
    if step.caches_context:
        places += step.packed_contexts()
        values += [tensor[0] for tensor in context.pack(plan)]
    if not free_to_read:
        values = _chosen(finite, values, places)
    torch._foreach_copy_(places, values)


def _chosen(finite: Tensor, new: Sequence[Tensor], old: Sequence[Tensor]) -> list[Tensor]:
    """The new tensors if all gradients are finite, else the old ones."""
    after, before = (torch.cat([t.reshape(-1).to(new[0]) for t in ts]) for ts in (new, old))
    parts = torch.split(torch.where(finite, after, before), [tensor.numel() for tensor in old])
    return [part.view_as(tensor) for part, tensor in zip(parts, old, strict=True)]
