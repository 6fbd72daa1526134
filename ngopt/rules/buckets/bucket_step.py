"""One step of the default rule, bucket by bucket, in operations of torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.features.moments import Moments, compute_dtype
from ngopt.features.scale import scaled
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.buckets.bucket import Bucket
from ngopt.rules.buckets.bucket_entries import (
    MANY,
    BucketEntries,
    BucketStatistics,
    CorrectedDirections,
    HeadInputs,
    StepCounts,
    StepTensors,
    UpdateScales,
    per_member,
)
from ngopt.rules.buckets.context import ContextBuilder, GraphContext
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.buckets.whitening import COVARIANCES, ROOTS, Whitening
from ngopt.rules.rule import ParameterUpdate, State

if TYPE_CHECKING:
    from ngopt.rules.matrix_gnn import MatrixGNN

CONTEXT = "context"
"""Name of the cached graph context in the state of a parameter."""


class BucketStep:
    """A step of all parameters of a plan.

    Args:
        rule: whose step it is.
        plan: of the parameters.
        parameters: by name; there may be more than in the plan. For several runs, all tensors
            have a leading dimension for runs; weights of the rule may have one.
        gradients: of the parameters.
        state: of the parameters.
        factors: of the gradients, `(parameters,)`; 1 by default.
        finite: 0-dim; if it is given and false, gradients count as 0 and moments stay.
    """

    def __init__(
        self,
        rule: "MatrixGNN",
        plan: Plan,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        factors: Tensor | None = None,
        finite: Tensor | None = None,
    ) -> None:
        self._rule, self._state = rule, state
        self.plan, self._parameters = plan, parameters
        first = parameters[plan.names[0]]
        self.dtype = compute_dtype(first)
        self.fixed = plan.on(first.new_empty((), dtype=self.dtype))
        self.runs = len(first) if first.dim() > len(plan.layouts[plan.names[0]].shape) else 1
        self.factors: Tensor | None = None
        if factors is not None:
            self.factors = self.to_bundles(factors.to(self.dtype)).unsqueeze(0)
        self.finite = finite
        self._counts: Tensor | None = None
        self._step_counts: StepCounts | None = None
        moments = ({n: state[n][key] for n in plan.names} for key in Moments._fields)
        self.tensors = StepTensors(parameters, gradients, *moments)
        few = sum(gradients[name].numel() for name in plan.names) <= MANY
        self._keep = few or torch.is_grad_enabled()
        self._kept: dict[int, BucketEntries] = {}
        self._packed: dict[str, Tensor] = {}

    # torch.compile does not know functools.cached_property.
    @property
    def counts(self) -> Tensor:
        """Number of gradients of each parameter so far, `(runs, parameters)`."""
        if self._counts is None:
            self._counts = self.state_numbers("step") + 1
        return self._counts

    @property
    def steps(self) -> StepCounts:
        """The same for each bundle."""
        if self._step_counts is None:
            counts, base_update = self.to_bundles(self.counts), self._rule.base_update
            self._step_counts = StepCounts(
                counts, self.dtype, base_update, self.factors, self.finite
            )
        return self._step_counts

    def state_tensors(self, key: str) -> list[Tensor]:
        """A tensor in the state of each parameter."""
        return [self._state[name][key] for name in self.plan.names]

    def state_numbers(self, key: str) -> Tensor:
        """The same, stacked, `(runs, parameters)`."""
        found = torch.stack(self.state_tensors(key), -1)
        return found.unsqueeze(0) if found.dim() == 1 else found

    def to_bundles(self, numbers: Tensor) -> Tensor:
        """Expand numbers of parameters, `(..., parameters)`, to their bundles, `(..., bundles)`."""
        return numbers.index_select(-1, self.fixed["owner"])

    def entries(self, bucket: Bucket) -> BucketEntries:
        """The entries of a bucket; cached if they are few."""
        if bucket.start in self._kept:
            return self._kept[bucket.start]
        block = self.plan.block(self.counts)
        found = BucketEntries(bucket, self.tensors, self.steps, self._rule.head, block)
        if self._keep:
            self._kept[bucket.start] = found
        return found

    def new_context(self, statistics: BucketStatistics | None = None) -> GraphContext:
        """Compute the graph context.

        Args:
            statistics: of all bundles, if they are there already.
        """
        if not self.plan.buckets:
            return GraphContext.unpack(self.plan, self.fixed["fixed"])  # empty
        if statistics is None:
            statistics = self.statistics()
        return self.context_builder(statistics).build()

    def statistics(self) -> BucketStatistics:
        """Statistics of all bundles."""
        return BucketStatistics.concatenate(
            [self.entries(bucket).statistics() for bucket in self.plan.buckets]
        )

    def context_builder(self, statistics: BucketStatistics) -> ContextBuilder:
        """Return what computes the graph context."""
        evidence = self.to_bundles(self.state_numbers("evidence").to(self.dtype))
        return ContextBuilder(self._rule, self.plan, statistics, self.steps.counts, evidence)

    def cached_context(self) -> GraphContext:
        """The graph context that is cached in the state."""
        whole = torch.cat(self.packed_contexts(), -1)
        return GraphContext.unpack(self.plan, whole.unsqueeze(0) if whole.dim() == 1 else whole)

    @property
    def caches_context(self) -> bool:
        """Whether the graph context is cached in the state."""
        return self._rule.refresh_every > 1

    def packed_contexts(self) -> list[Tensor]:
        """The cached context of each parameter, packed."""
        return [self._state[name][CONTEXT] for name in self.plan.names]

    def mean_evidence(self, context: GraphContext) -> Tensor:
        """Evidence of each parameter, the mean over its bundles, `(runs, parameters)`."""
        found = context.evidence * self.fixed["shares"]
        total = found.new_zeros(len(found), len(self.plan.names))
        return total.index_add(1, self.fixed["owner"], found)

    def squares(self, context: GraphContext) -> Tensor:
        """Mean squares of fast momentum, weights and base direction, `(runs, bundles, 3)`."""
        return torch.stack([context.fast, context.weight, context.base], -1)

    def full_sizes(self, context: GraphContext) -> Tensor:
        """Sizes of full steps, `(runs, bundles)`."""
        base_update, usual = self._rule.base_update, self.fixed["usual"]
        weight = base_update.weight_scale(context.weight, torch.where(usual > 0, usual, 1.0))
        return context.scale * torch.where(usual > 0, weight, 1.0) * self.fixed["fixed"]

    def head_inputs(self, context: GraphContext) -> HeadInputs:
        """Inputs of the entry head for all bundles."""
        head = self._rule.head
        out = into = None
        if context.out is not None and context.into is not None:
            out, into = head.out_neuron(context.out), head.in_neuron(context.into)
        return HeadInputs(
            context.rows, context.columns, head.context(context.bundle_features), out, into
        )

    def corrected_directions(
        self, context: GraphContext, *, refresh: bool
    ) -> Iterator[tuple[Bucket, BucketEntries, CorrectedDirections, Tensor]]:
        """Correct the directions of each bucket, one after the other.

        Args:
            context: the graph context.
            refresh: whether that was recomputed in this step.

        Yields:
            The bucket, its entries, its directions, and their factors, `(runs, members)`.
        """
        base_update, diagnostics = self._rule.base_update, self._rule.reports_diagnostics
        sizes = self.full_sizes(context) * base_update.share(context.evidence, self.steps.counts)
        scales = UpdateScales(self.squares(context), self.steps.trusted(), context.decay)
        head_inputs = self.head_inputs(context)
        for bucket in self.plan.buckets:
            entries, before = self.entries(bucket), bucket.select(scales.base)
            self._kept.pop(bucket.start, None)
            whole = factor = None
            if bucket.matrix is not None:
                momenta = entries.mixed_momenta(context.slow)
                whole = self._direction(bucket, momenta, entries, refresh=refresh)
                factor = base_update.rescale(before, entries.gated_mean_square(whole))
            corrected = entries.correct(
                scales, head_inputs.of(bucket), factor, diagnostics=diagnostics
            )
            if corrected.corrections is not None:
                for place in range(len(bucket.members)):
                    self.report(bucket, place, context, corrected.corrections[0, place])
            size = base_update.rescale(before, corrected.square) * bucket.select(sizes)
            yield bucket, entries, corrected, size

    def _direction(
        self, bucket: Bucket, momenta: Tensor, entries: BucketEntries, *, refresh: bool
    ) -> Tensor:
        """Momenta of matrices, whitened or orthogonalized, not yet of the right size."""
        base_update = self._rule.base_update
        assert bucket.matrix is not None
        if not bucket.whitened:
            return base_update.orthogonalized(momenta, bucket.matrix)
        members = range(len(bucket.members))
        return self.whitening(refresh=refresh).directions(
            bucket, members, momenta, entries.gradients()
        )

    def whitening(self, *, refresh: bool) -> Whitening:
        """Return what whitens momenta; it overwrites covariances in the state."""
        return Whitening(
            self._rule.base_update,
            lambda: self.steps.counts,
            self._state,
            refresh,
            self.finite,
        )

    def report(
        self, bucket: Bucket, place: int, context: GraphContext, corrections: Tensor
    ) -> None:
        """Report diagnostics of a bundle.

        Args:
            bucket: of the bundle.
            place: of the bundle in it.
            context: graph context.
            corrections: raw corrections of the bundle, `(group, out, in, tap)`.
        """
        assert self._rule.on_diagnostics is not None
        number, ends = bucket.start + place, []
        departure = self._rule.base_update.departure(corrections, self.steps.counts[0, number])
        if not bucket.stateless and context.out is not None and context.into is not None:
            states = bucket.at_outputs(context.out), bucket.at_inputs(context.into)
            ends = [state[0, place] for state in states]
        member = bucket.members[place]
        self._rule.on_diagnostics(
            member.name, member.bundle, context.scale[0, number], departure, ends
        )

    def updates(self, context: GraphContext, *, refresh: bool) -> Iterator[ParameterUpdate]:
        """The updates of all parameters, in their order; arguments as above."""
        found: dict[str, ParameterUpdate] = {}
        waiting = list(reversed(self.plan.names))
        for change in self._unordered_updates(context, refresh):
            found[change.name] = change
            while waiting and waiting[-1] in found:
                yield found.pop(waiting.pop())

    def _unordered_updates(self, context: GraphContext, refresh: bool) -> Iterator[ParameterUpdate]:
        """The update of each parameter, as soon as all its bundles are done."""
        evidence_by_name = dict(
            zip(self.plan.names, self.mean_evidence(context)[0].unbind(), strict=True)
        )
        if self.caches_context:
            stored = [tensor[0] for tensor in context.pack(self.plan)]
            self._packed = dict(zip(self.plan.names, stored, strict=True))
        missing = {name: len(layout.bundles) for name, layout in self.plan.layouts.items()}
        done: dict[tuple[str, int], tuple[Tensor, ...]] = {}
        for name in [name for name, count in missing.items() if not count]:
            yield self._parameter_update(name, [], evidence_by_name)
        for bucket, _, corrected, size in self.corrected_directions(context, refresh=refresh):
            results = [
                scaled(corrected.direction, per_member(size))[0],
                *(m[0] for m in corrected.moments),
            ]
            for place, member in enumerate(bucket.members):
                name, bundles = member.name, range(len(member.layout.bundles))
                done[name, member.number] = tuple(tensor[place] for tensor in results)
                missing[name] -= 1
                if not missing[name]:
                    yield self._parameter_update(
                        name, [done.pop((name, n)) for n in bundles], evidence_by_name
                    )

    def _parameter_update(
        self, name: str, parts: Sequence[tuple[Tensor, ...]], evidence: Mapping[str, Tensor]
    ) -> ParameterUpdate:
        layout, before = self.plan.layouts[name], self._state[name]
        parameter = self._parameters[name]
        updates, fast, slow, square = zip(*parts, strict=True) if parts else [()] * 4
        update = layout.assemble(updates, parameter)
        # In the order of the initial state.
        after = {"step": before["step"] + 1}
        for key, arrays in zip(Moments._fields, (fast, slow, square), strict=True):
            after[key] = layout.assemble(arrays, before[key])
        after["evidence"] = evidence[name].to(before["evidence"]) if parts else before["evidence"]
        after |= {key: before[key] for key in (COVARIANCES, ROOTS) if key in before}
        if name in self._packed:
            after[CONTEXT] = self._packed[name]
        return ParameterUpdate(name, update.to(parameter), after)


def make_plans(
    rule: "MatrixGNN",
    graph: NeuralGraph,
    gradients: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
) -> list[Plan]:
    """Make the plans of a step, one for each device and precision."""
    by_device: dict[tuple[torch.device, torch.dtype], list[str]] = {}
    for name in gradients:
        parameter = parameters[name]
        by_device.setdefault((parameter.device, compute_dtype(parameter)), []).append(name)
    width = rule.width if rule.graph_context else 0
    return [
        Plan(graph, names, rule.base_update, rule.positions.structure, width)
        for names in by_device.values()
    ]
