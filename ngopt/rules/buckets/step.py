"""One step of the default rule, bucket by bucket."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.features.moments import Moments, compute_dtype
from ngopt.features.scale import scaled
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.buckets.entries import (
    MANY,
    Corrected,
    Entries,
    Given,
    Heard,
    Scales,
    Steps,
    Surveyed,
    wide,
)
from ngopt.rules.buckets.look import Look, Seen
from ngopt.rules.buckets.plan import Bucket, Plan
from ngopt.rules.rule import ParameterUpdate, State

if TYPE_CHECKING:
    from ngopt.rules.matrix_gnn import MatrixGNN

CONTEXT = "context"
"""Name in the state of a parameter of what was last seen of its bundles and of the model."""


class Stepped:
    """A step of all parameters of a plan.

    Args:
        rule: whose step it is.
        plan: of the parameters.
        parameters: by name; more than those of the plan do no harm. All tensors of several runs
            have a dimension for them in front, as weights of the rule may have.
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
            self.factors = self.of_bundles(factors.to(self.dtype)).unsqueeze(0)
        self.finite = finite
        self._counts: Tensor | None = None
        self._steps: Steps | None = None
        moments = ({n: state[n][key] for n in plan.names} for key in Moments._fields)
        self.given = Given(parameters, gradients, *moments)
        few = sum(gradients[name].numel() for name in plan.names) <= MANY
        self._keep = few or torch.is_grad_enabled()
        self._kept: dict[int, Entries] = {}
        self._contexts: dict[str, Tensor] = {}

    # torch.compile does not know functools.cached_property.
    @property
    def counts(self) -> Tensor:
        """Number of gradients of each parameter so far, `(runs, parameters)`."""
        if self._counts is None:
            self._counts = self.numbers("step") + 1
        return self._counts

    @property
    def steps(self) -> Steps:
        """The same of each bundle."""
        if self._steps is None:
            counts, base_update = self.of_bundles(self.counts), self._rule.base_update
            self._steps = Steps(counts, self.dtype, base_update, self.factors, self.finite)
        return self._steps

    def singles(self, key: str) -> list[Tensor]:
        """A number of the state of each parameter."""
        return [self._state[name][key] for name in self.plan.names]

    def numbers(self, key: str) -> Tensor:
        """The same, `(runs, parameters)`."""
        found = torch.stack(self.singles(key), -1)
        return found.unsqueeze(0) if found.dim() == 1 else found

    def of_bundles(self, numbers: Tensor) -> Tensor:
        """Numbers of parameters, `(..., parameters)`, for their bundles, `(..., bundles)`."""
        return numbers.index_select(-1, self.fixed["owner"])

    def entries(self, bucket: Bucket) -> Entries:
        """The entries of a bucket; what is known of them is kept if it is little."""
        if bucket.start in self._kept:
            return self._kept[bucket.start]
        block = self.plan.block(self.counts)
        found = Entries(bucket, self.given, self.steps, self._rule.head, block)
        if self._keep:
            self._kept[bucket.start] = found
        return found

    def look(self, survey: Surveyed | None = None) -> Seen:
        """See all bundles anew.

        Args:
            survey: of them, if it is there already.
        """
        if not self.plan.buckets:
            return Seen.recalled(self.plan, self.fixed["fixed"])  # of no bundles
        if survey is None:
            survey = self.survey()
        return self.looking(survey).seen()

    def survey(self) -> Surveyed:
        """Sum up all bundles."""
        return Surveyed.joined([self.entries(bucket).survey() for bucket in self.plan.buckets])

    def looking(self, survey: Surveyed) -> Look:
        """What sees all bundles anew."""
        evidence = self.of_bundles(self.numbers("evidence").to(self.dtype))
        return Look(self._rule, self.plan, survey, self.steps.counts, evidence)

    def recall(self) -> Seen:
        """What was seen of all bundles at the last look."""
        whole = torch.cat(self.contexts(), -1)
        return Seen.recalled(self.plan, whole.unsqueeze(0) if whole.dim() == 1 else whole)

    @property
    def stores(self) -> bool:
        """Whether what is seen is stored until the next look."""
        return self._rule.refresh_every > 1

    def contexts(self) -> list[Tensor]:
        """Where that is stored."""
        return [self._state[name][CONTEXT] for name in self.plan.names]

    def evidence(self, seen: Seen) -> Tensor:
        """Evidence of each parameter, the mean over its bundles, `(runs, parameters)`."""
        found = seen.evidence * self.fixed["shares"]
        total = found.new_zeros(len(found), len(self.plan.names))
        return total.index_add(1, self.fixed["owner"], found)

    def squares(self, seen: Seen) -> Tensor:
        """Mean squares of fast momentum, weights and base direction, `(runs, bundles, 3)`."""
        return torch.stack([seen.fast, seen.weight, seen.base], -1)

    def size(self, seen: Seen) -> Tensor:
        """Sizes of full steps, `(runs, bundles)`."""
        base_update, usual = self._rule.base_update, self.fixed["usual"]
        weight = base_update.weight_scale(seen.weight, torch.where(usual > 0, usual, 1.0))
        return seen.scale * torch.where(usual > 0, weight, 1.0) * self.fixed["fixed"]

    def heard(self, seen: Seen) -> Heard:
        """What the network of entries hears of all bundles."""
        head = self._rule.head
        out = into = None
        if seen.out is not None and seen.into is not None:
            out, into = head.out_neuron(seen.out), head.in_neuron(seen.into)
        return Heard(seen.rows, seen.columns, head.context(seen.context), out, into)

    def results(self, seen: Seen) -> Iterator[tuple[Bucket, Entries, Corrected, Tensor]]:
        """Correct the directions of each bucket, one after the other.

        Yields:
            The bucket, its entries, its directions, and by what these are to be multiplied, `(runs,
            members)`.
        """
        base_update, watched = self._rule.base_update, self._rule.reports_diagnostics
        sizes = self.size(seen) * base_update.share(seen.evidence, self.steps.counts)
        scales = Scales(self.squares(seen), self.steps.trusted(), seen.decay)
        heard = self.heard(seen)
        for bucket in self.plan.buckets:
            entries, before = self.entries(bucket), bucket.of(scales.base)
            self._kept.pop(bucket.start, None)
            whole = factor = None
            if bucket.matrix is not None:
                whole = base_update.orthogonalized(entries.mixture(), bucket.matrix)
                factor = base_update.rescale(before, entries.weighed(whole))
            corrected = entries.corrected(scales, heard.of(bucket), factor, watched=watched)
            if corrected.corrections is not None:
                for place in range(len(bucket.members)):
                    self.tell(bucket, place, seen, corrected.corrections[0, place])
            size = base_update.rescale(before, corrected.square) * bucket.of(sizes)
            yield bucket, entries, corrected, size

    def tell(self, bucket: Bucket, place: int, seen: Seen, corrections: Tensor) -> None:
        """Tell whoever watches the rule what it decides about a bundle.

        Args:
            bucket: of the bundle.
            place: of the bundle in it.
            seen: of all bundles.
            corrections: raw corrections of the bundle, `(group, out, in, tap)`.
        """
        assert self._rule.on_diagnostics is not None
        number, ends = bucket.start + place, []
        departure = self._rule.base_update.departure(corrections, self.steps.counts[0, number])
        if not bucket.thin and seen.out is not None and seen.into is not None:
            states = bucket.at_outputs(seen.out), bucket.at_inputs(seen.into)
            ends = [state[0, place] for state in states]
        member = bucket.members[place]
        self._rule.on_diagnostics(
            member.name, member.bundle, seen.scale[0, number], departure, ends
        )

    def changes(self, seen: Seen) -> Iterator[ParameterUpdate]:
        """What changes of each parameter, in their order."""
        found: dict[str, ParameterUpdate] = {}
        waiting = list(reversed(self.plan.names))
        for change in self._unordered(seen):
            found[change.name] = change
            while waiting and waiting[-1] in found:
                yield found.pop(waiting.pop())

    def _unordered(self, seen: Seen) -> Iterator[ParameterUpdate]:
        """What changes of each parameter, as soon as that of all its bundles is known."""
        told = dict(zip(self.plan.names, self.evidence(seen)[0].unbind(), strict=True))
        if self.stores:
            stored = [tensor[0] for tensor in seen.stored(self.plan)]
            self._contexts = dict(zip(self.plan.names, stored, strict=True))
        missing = {name: len(layout.bundles) for name, layout in self.plan.layouts.items()}
        done: dict[tuple[str, int], tuple[Tensor, ...]] = {}
        for name in [name for name, count in missing.items() if not count]:
            yield self._change(name, [], told)
        for bucket, _, corrected, size in self.results(seen):
            made = [scaled(corrected.direction, wide(size))[0], *(m[0] for m in corrected.moments)]
            for place, member in enumerate(bucket.members):
                name, bundles = member.name, range(len(member.layout.bundles))
                done[name, member.number] = tuple(tensor[place] for tensor in made)
                missing[name] -= 1
                if not missing[name]:
                    yield self._change(name, [done.pop((name, n)) for n in bundles], told)

    def _change(
        self, name: str, parts: Sequence[tuple[Tensor, ...]], evidence: Mapping[str, Tensor]
    ) -> ParameterUpdate:
        layout, before = self.plan.layouts[name], self._state[name]
        parameter = self._parameters[name]
        updates, fast, slow, square = zip(*parts, strict=True) if parts else [()] * 4
        update = layout.assemble(updates, parameter)
        # In the order of the state to begin with.
        after = {"step": before["step"] + 1}
        for key, arrays in zip(Moments._fields, (fast, slow, square), strict=True):
            after[key] = layout.assemble(arrays, before[key])
        after["evidence"] = evidence[name].to(before["evidence"]) if parts else before["evidence"]
        if name in self._contexts:
            after[CONTEXT] = self._contexts[name]
        return ParameterUpdate(name, update.to(parameter), after)


def plans_of(
    rule: "MatrixGNN",
    graph: NeuralGraph,
    gradients: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
) -> list[Plan]:
    """Make the plans of a step: one for each device and precision."""
    alike: dict[tuple[torch.device, torch.dtype], list[str]] = {}
    for name in gradients:
        parameter = parameters[name]
        alike.setdefault((parameter.device, compute_dtype(parameter)), []).append(name)
    width = rule.width if rule.graph_context else 0
    return [
        Plan(graph, names, rule.base_update, rule.positions.structure, width)
        for names in alike.values()
    ]
