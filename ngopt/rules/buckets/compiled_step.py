"""A step of the default rule by compiled loops."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.backends.backend import backend_for
from ngopt.backends.kernel import CompileError
from ngopt.features.moments import Moments
from ngopt.rules.buckets.bucket_step import CONTEXT, BucketStep
from ngopt.rules.buckets.compiled_loops import CompiledLoops
from ngopt.rules.buckets.context import ContextBuilder, GraphContext
from ngopt.rules.buckets.memory_layout import Segment
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.buckets.sharded_loops import ShardedLoops
from ngopt.rules.buckets.whitening import COVARIANCES, ROOTS, reset_misfits
from ngopt.rules.rule import ParameterUpdate, State
from ngopt.rules.shards import Shards, contiguous

if TYPE_CHECKING:
    from ngopt.rules.matrix_gnn import MatrixGNN


def compiled_loops_for(step: BucketStep, rule: "MatrixGNN") -> CompiledLoops | None:
    """The compiled loops for a step, made once per plan; None where loops cannot be used."""
    plan, given = step.plan, step.tensors
    first = plan.names[0]
    dtypes = tuple(moments[first].dtype for moments in given[2:])
    backend = backend_for([given.weight[first], given.gradient[first]]) if plan.buckets else None
    if backend is None or step.dtype != torch.float32:
        return None
    if any(dtype not in (torch.float32, torch.bfloat16) for dtype in dtypes):
        return None
    if any(count.dtype != torch.float32 for count in step.state_tensors("step")):
        return None
    runs = step.runs
    strides = _strides(step, dtypes)
    if None in strides.values() and not backend.compiled:
        return None
    key = backend, runs, dtypes, tuple(strides.values())
    if key not in plan.loops:
        plan.loops.clear()
        settings = rule.base_update, rule.head, rule.graph_context, dtypes, strides
        try:
            plan.loops[key] = CompiledLoops(
                backend, plan, given.weight[first].device, runs, *settings
            )
        except CompileError as reason:
            backend.disable(reason)
            return None
    found: CompiledLoops = plan.loops[key]
    return found


def sharded_loops_for(
    rule: "MatrixGNN", plan: Plan, shards: Shards, parameters: Mapping[str, Tensor], state: State
) -> CompiledLoops | None:
    """The compiled loops for sharded parameters. All processes must call this.

    Args:
        rule: whose step it is.
        plan: of all parameters.
        shards: the processes.
        parameters: local shards.
        state: local shards of the state.

    Returns:
        None if loops cannot be used in one of the processes.
    """
    if shards not in plan.sharded_loops:
        found = _make_sharded_loops(rule, plan, shards, parameters, state)
        agreed = shards.agree(found is not None, parameters[plan.names[0]].device)
        plan.sharded_loops = {shards: found if agreed else None}
    made: CompiledLoops | None = plan.sharded_loops[shards]
    return made


def _make_sharded_loops(
    rule: "MatrixGNN", plan: Plan, shards: Shards, parameters: Mapping[str, Tensor], state: State
) -> CompiledLoops | None:
    given = [parameters[name] for name in plan.names]
    backend = backend_for(given) if plan.buckets else None
    dtypes = tuple(state[plan.names[0]][key].dtype for key in Moments._fields)
    same_layout = all(
        tuple(state[name][key].dtype for key in Moments._fields) == dtypes
        and all(state[name][key].stride() == parameters[name].stride() for key in Moments._fields)
        for name in plan.names
    )
    allowed = (torch.float32, torch.bfloat16)
    if backend is None or not same_layout or any(dtype not in allowed for dtype in dtypes):
        return None
    strides = {name: contiguous(layout.shape) for name, layout in plan.layouts.items()}
    settings = rule.base_update, rule.head, rule.graph_context, dtypes, strides
    try:
        return ShardedLoops(shards, backend, plan, given[0].device, 1, *settings)
    except CompileError as reason:
        backend.disable(reason)
    except ValueError:  # shards divide rows of matrices
        pass
    return None


def _strides(
    step: BucketStep, dtypes: tuple[torch.dtype, ...]
) -> dict[str, tuple[int, ...] | None]:
    """Strides of each parameter in one run; None unless its state has the same, and `dtypes`."""
    plan, given = step.plan, step.tensors
    weights = [given.weight[name] for name in plan.names]
    lead = weights[0].dim() - len(plan.layouts[plan.names[0]].shape)
    strides = [weight.stride()[lead:] for weight in weights]
    fit = [weight.dtype == torch.float32 for weight in weights]
    for tensors, dtype in zip(given[2:], dtypes, strict=True):
        moments = (tensors[name] for name in plan.names)
        fit = [
            so_far and moment.stride()[lead:] == own and moment.dtype == dtype
            for so_far, moment, own in zip(fit, moments, strides, strict=True)
        ]
    pairs = zip(plan.names, strides, fit, strict=True)
    return {name: own if fits else None for name, own, fits in pairs}


def run_step(
    rule: "MatrixGNN",
    step: BucketStep,
    loops: CompiledLoops,
    target: Mapping[str, Tensor],
    rates: Tensor,
    kept: Tensor | None,
    *,
    refresh: bool,
) -> GraphContext | None:
    """Do a step: overwrite the moments, and update the targets.

    Args:
        rule: whose step it is.
        step: the step.
        loops: that do it.
        target: what is updated, by name: the parameters, or tensors of their shapes and strides.
        rates: learning rates of the bundles, `(runs, bundles)`, or of all.
        kept: share of the target that stays, of the same shape; all by default.
        refresh: whether to recompute the graph context, or to use the cached one.

    Returns:
        The new graph context, if `refresh`.
    """
    _set_tensors(step, loops, target)
    numbers = loops.numbers
    numbers.rate.copy_(rates)
    numbers.kept.fill_(1.0) if kept is None else numbers.kept.copy_(kept)
    context = None
    if refresh:
        context = step.new_context(loops.statistics())
    # If `finite` is only known on the device, the loops may hold the context of a skipped step.
    elif (
        rule.reports_diagnostics
        or step.finite is not None
        or not loops.has_context([*step.packed_contexts(), *rule.head.weights])
    ):
        context = step.cached_context()
    if context is not None:
        sizes = context.decay, context.slow, step.full_sizes(context), context.evidence
        loops.set_context(step.squares(context), *sizes, step.head_inputs(context))

    def report(segment: Segment, corrections: Tensor) -> None:
        assert context is not None
        for place, correction in zip(segment.members, corrections, strict=True):
            step.report(segment.bucket, place, context, correction[0])

    loops.run(
        rule.head,
        step.whitening(refresh=refresh),
        report if rule.reports_diagnostics else None,
    )
    if context is not None and not refresh:
        mark_context(rule, step, loops)
    return context if refresh else None


def _set_tensors(step: BucketStep, loops: CompiledLoops, target: Mapping[str, Tensor]) -> None:
    """Give the loops the tensors of a step."""
    loops.set_tensors(step.tensors, target, step.state_tensors("step"))
    numbers = loops.numbers
    if step.finite is not None:
        numbers.finite.copy_(step.finite)
    numbers.factor.fill_(1.0) if step.factors is None else numbers.factor.copy_(step.factors)


def context_builder(rule: "MatrixGNN", step: BucketStep) -> ContextBuilder:
    """Return what computes the graph context, differentiable with respect to theta alone."""
    with torch.no_grad():
        loops = compiled_loops_for(step, rule)
        if loops is None:
            statistics = step.statistics()
        else:
            _set_tensors(step, loops, step.tensors.weight)
            statistics = loops.statistics(differentiable=True)
    return step.context_builder(statistics)


def mark_context(rule: "MatrixGNN", step: BucketStep, loops: CompiledLoops) -> None:
    """Note that the loops hold the context that is in the state now."""
    loops.mark_context([*step.packed_contexts(), *rule.head.weights])


def _in_place_updates(
    rule: "MatrixGNN", step: BucketStep, loops: CompiledLoops, state: State, *, refresh: bool
) -> Iterator[ParameterUpdate]:
    """The update of each parameter.

    Args:
        rule: whose step it is.
        step: the step, of a state whose moments may be overwritten.
        loops: that do it.
        state: that state.
        refresh: whether to recompute the graph context, or to use the cached one.
    """
    plan, weights = step.plan, step.tensors.weight
    updates = {name: torch.zeros_like(weights[name], dtype=torch.float32) for name in plan.names}
    rates = -torch.ones((), device=weights[plan.names[0]].device)
    context = run_step(rule, step, loops, updates, rates, None, refresh=refresh)
    evidence = None if context is None else step.mean_evidence(context)
    contexts = context.pack(plan) if context is not None and step.caches_context else None
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


def all_updates(
    rule: "MatrixGNN",
    plans: Sequence[Plan],
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    state: State,
    *,
    refresh: bool,
) -> Iterator[ParameterUpdate]:
    """The updates of all parameters, by compiled loops where possible.

    Args:
        rule: whose step it is.
        plans: of the parameters; those of different plans exchange no messages.
        parameters: as for :meth:`Rule.updates`.
        gradients: as for :meth:`Rule.updates`.
        state: as for :meth:`Rule.updates`.
        refresh: whether to recompute the graph context, or to use the cached one.
    """
    for plan in plans:
        step = BucketStep(rule, plan, parameters, gradients, state)
        if compiled_loops_for(step, rule) is None:
            own = _with_copies(state, plan, (COVARIANCES, ROOTS))
            step = BucketStep(rule, plan, parameters, gradients, own)
            context = step.new_context() if refresh else step.cached_context()
            yield from step.updates(context, refresh=refresh)
            continue
        own = _with_copies(state, plan, (*Moments._fields, COVARIANCES, ROOTS))
        step = BucketStep(rule, plan, parameters, gradients, own)
        loops = compiled_loops_for(step, rule)
        assert loops is not None
        yield from _in_place_updates(rule, step, loops, own, refresh=refresh)


def _with_copies(state: State, plan: Plan, keys: Sequence[str]) -> State:
    """The state of the parameters of a plan, with copies of some tensors, which may be changed."""
    own = {
        name: state[name]
        | {key: state[name][key].detach().clone() for key in keys if key in state[name]}
        for name in plan.names
    }
    reset_misfits(own, plan.covariances)
    return own
