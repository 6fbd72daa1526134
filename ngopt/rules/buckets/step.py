"""One step of the default rule, bucket by bucket."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ngopt.features.entries import Edges
from ngopt.features.moments import Moments, compute_dtype
from ngopt.features.scale import root_inverse, scaled
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.buckets.arrays import MANY, Given, Steps, advanced, surveyed
from ngopt.rules.buckets.look import Look, Seen
from ngopt.rules.buckets.plan import Bucket, Plan, stacked
from ngopt.rules.layers.affine import Affine
from ngopt.rules.layers.entry_head import EntryHead
from ngopt.rules.rule import Change, State

if TYPE_CHECKING:
    from ngopt.rules.matrix_gnn import MatrixGNN

CONTEXT = "context"
"""Name in the state of a parameter of what was last seen of its bundles and of the model."""


class Result(NamedTuple):
    """What a step makes of a bucket.

    Args:
        direction: of its members, `(1, members, group, out, in, tap)`.
        size: by which it has to be multiplied, of as many dimensions.
        moments: to be stored, each of the shape of the direction.
        weight: entries of the parameters before the step, of the same shape.
    """

    direction: Tensor
    size: Tensor
    moments: Moments
    weight: Tensor


class _Scales:
    """Numbers of all bundles that scale what is computed of their entries, `(runs, bundles)`.

    Args:
        squares: mean squares of the fast momentum, the weights and the base direction, `(runs,
            bundles, 3)`.
        trusted: how far corrections count.
        steps: sizes of the steps.
    """

    def __init__(self, squares: Tensor, trusted: Tensor, steps: Tensor) -> None:
        self.base, self.steps = squares[..., 2], steps
        inverses = root_inverse(squares)
        self.inverses = inverses.unbind(-1)
        self.reach = self.base * self.inverses[2] * trusted


class Stepped:
    """A step of all parameters of a plan.

    Args:
        rule: whose step it is.
        plan: of the parameters.
        parameters: by name; more than those of the plan do no harm.
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
        self._rule, self._state, self._finite = rule, state, finite
        self.plan, self._parameters = plan, parameters
        first = parameters[plan.names[0]]
        self.dtype = compute_dtype(first)
        self.fixed = plan.on(first.new_empty((), dtype=self.dtype))
        self.counts = self._numbers("step") + 1
        self._steps = Steps(self.of_bundles(self.counts), self.dtype, rule.skeleton, finite)
        self._factors = None if factors is None else self.of_bundles(factors.to(self.dtype))
        moments = ({n: state[n][key] for n in plan.names} for key in Moments._fields)
        self._views = [
            {name: layout.views(source[name]) for name, layout in plan.layouts.items()}
            for source in (parameters, gradients, *moments)
        ]
        keep = sum(gradients[name].numel() for name in plan.names) <= MANY
        self._keep = keep or torch.is_grad_enabled()
        self._kept: dict[int, tuple[Edges, Moments]] = {}

    def _numbers(self, key: str) -> Tensor:
        """A number of the state of each parameter, `(parameters,)`."""
        return torch.stack([self._state[name][key] for name in self.plan.names])

    def of_bundles(self, numbers: Tensor) -> Tensor:
        """Numbers of parameters, `(parameters,)`, for their bundles, `(1, bundles)`."""
        return numbers.index_select(0, self.fixed["owner"]).unsqueeze(0)

    def _edges(self, bucket: Bucket) -> tuple[Edges, Moments]:
        """What is known of the entries of a bucket, and its moments to be stored."""
        if bucket.start in self._kept:
            return self._kept[bucket.start]
        given = Given(*(stacked(bucket, views).unsqueeze(0) for views in self._views))
        gradient = given.gradient.to(self.dtype)
        if self._factors is not None:
            gradient = gradient * bucket.wide(self._factors)
        if self._finite is not None:
            gradient = torch.where(self._finite, gradient, 0.0)
        found = advanced(bucket, given._replace(gradient=gradient), self._steps)
        if self._keep:
            self._kept[bucket.start] = found
        return found

    def look(self) -> list[Seen]:
        """See all bundles anew."""
        plan = self.plan
        if not plan.buckets:
            return []
        surveys = [surveyed(b, self._edges(b)[0], self._steps) for b in plan.buckets]
        evidence = self.of_bundles(self._numbers("evidence").to(self.dtype))
        return Look(self._rule, plan, surveys, self._steps.counts, evidence).seen()

    def recall(self) -> list[Seen]:
        """What was seen of all bundles at the last look."""
        vectors = {name: self.parts(name, self._state[name][CONTEXT]) for name in self.plan.layouts}
        return [
            Seen.recalled(bucket, stacked(bucket, vectors).unsqueeze(0), self.plan.width)
            for bucket in self.plan.buckets
        ]

    def parts(self, name: str, vector: Tensor) -> Sequence[Tensor]:
        """What is stored of each bundle of a parameter, of all that is stored of it."""
        sizes = self.plan.stored[name]
        return torch.split(vector, sizes) if len(sizes) > 1 else [vector] * len(sizes)

    def evidence(self, seen: Sequence[Seen]) -> Sequence[Tensor]:
        """Evidence of each parameter, the mean over its bundles, 0-dim each."""
        found = torch.cat([view.evidence for view in seen], 1) * self.fixed["shares"]
        total = torch.zeros_like(self.counts, dtype=found.dtype)
        return total.index_add(0, self.fixed["owner"], found[0]).unbind()

    def results(self, seen: Sequence[Seen]) -> Iterator[tuple[Bucket, Seen, Result]]:
        """What the step makes of each bucket, one after the other."""
        if not seen:
            return
        skeleton = self._rule.skeleton
        squares = torch.cat([torch.stack([v.fast, v.weight, v.base], -1) for v in seen], 1)
        scale, evidence = (
            torch.cat(p, 1) for p in zip(*((v.scale, v.evidence) for v in seen), strict=True)
        )
        usual = self.fixed["usual"]
        weight = skeleton.weight_scale(squares[..., 1], torch.where(usual > 0, usual, 1.0))
        weight = torch.where(usual > 0, weight, 1.0)
        share = skeleton.share(evidence, self._steps.counts)
        scales = _Scales(squares, self._steps.trusted, scale * share * weight * self.fixed["fixed"])
        for bucket, view in zip(self.plan.buckets, seen, strict=True):
            yield bucket, view, self._result(bucket, view, scales)

    def _result(self, bucket: Bucket, seen: Seen, scales: _Scales) -> Result:
        skeleton, steps = self._rule.skeleton, self._steps
        edges, after = self._edges(bucket)
        self._kept.pop(bucket.start, None)
        before = bucket.wide(scales.base)
        alive = skeleton.alive(edges.moments)
        if bucket.matrix is None:
            base = steps.base(bucket, edges.adam, edges.slow, edges.relative)
        else:
            mixture = steps.base(bucket, *edges.moments[:2], edges.gradient)
            whole = skeleton.orthogonalized(mixture, bucket.matrix) * alive
            base = scaled(whole, skeleton.rescale(before, _mean_square(whole)))
        inverses = [bucket.wide(inverse) for inverse in scales.inverses]
        correction = scaled(self._correction(edges, base, seen, inverses), alive)
        if self._rule.watched:
            self._tell(bucket, seen, correction)
        corrected = torch.addcmul(base, torch.tanh(correction), bucket.wide(scales.reach))
        size = skeleton.rescale(before, _mean_square(corrected)) * bucket.wide(scales.steps)
        return Result(corrected, size, after, edges.weight)

    def _correction(
        self, edges: Edges, base: Tensor, seen: Seen, inverses: Sequence[Tensor]
    ) -> Tensor:
        """Raw correction of each entry."""
        head = self._rule.head
        offsets = head.context(seen.context)[:, :, None, None, None, None]
        rows = columns = None
        if seen.out is not None and seen.into is not None:
            rows = _of_neurons(head.out_neuron, seen.out)[:, :, :, :, None, None]
            columns = _of_neurons(head.in_neuron, seen.into)[:, :, :, None, :, None]
        factors = root_inverse(seen.rows[..., None, None] * seen.columns[..., None, :, None])
        fast, weight, own = inverses
        arrays = (edges.adam, edges.slow, edges.relative, edges.moments.fast, factors, edges.weight)

        def answers(part: slice) -> Tensor:
            adam, slow, relative, moment, factor, entry = (_rows_of(a, part) for a in arrays)
            features = [adam, slow, relative, moment * factor, moment * fast, entry * weight]
            features.append(_rows_of(base, part) * own)
            heard = None if rows is None else _rows_of(rows, part)
            return _answers(head, torch.stack(features, -1), [offsets, heard, columns])

        height = base.shape[3]
        few = height if _whole() else max(1, self.plan.block * height // max(1, base.numel()))
        blocks = [answers(slice(at, at + few)) for at in range(0, height, few)]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 3)

    def _tell(self, bucket: Bucket, seen: Seen, correction: Tensor) -> None:
        """Tell whoever watches the rule what it decides."""
        assert self._rule.observer is not None
        count = bucket.wide(self._steps.counts)
        departure = self._rule.skeleton.departure(correction, count)
        for place, member in enumerate(bucket.members):
            ends = [t[0, place] for t in (seen.out, seen.into) if t is not None]
            told = (seen.scale[0, place], departure[0, place], ends)
            self._rule.observer(member.name, member.bundle, *told)

    def changes(self, seen: Sequence[Seen]) -> Iterator[Change]:
        """What changes of each parameter, as soon as that of all its bundles is known."""
        evidence = dict(zip(self.plan.names, self.evidence(seen) if seen else (), strict=False))
        missing = {name: len(layout.bundles) for name, layout in self.plan.layouts.items()}
        done: dict[tuple[str, int], tuple[Tensor, ...]] = {}
        for name in [name for name, count in missing.items() if not count]:
            yield self._change(name, [], evidence)
        for bucket, view, (direction, size, moments, _) in self.results(seen):
            made = [scaled(direction, size)[0], *(moment[0] for moment in moments)]
            if self._rule.refresh_every > 1:
                made.append(view.stored()[0])
            for place, member in enumerate(bucket.members):
                name, bundles = member.name, range(len(member.layout.bundles))
                done[name, member.number] = tuple(tensor[place] for tensor in made)
                missing[name] -= 1
                if not missing[name]:
                    yield self._change(name, [done.pop((name, n)) for n in bundles], evidence)

    def _change(
        self, name: str, parts: Sequence[tuple[Tensor, ...]], evidence: Mapping[str, Tensor]
    ) -> Change:
        layout, before = self.plan.layouts[name], self._state[name]
        parameter = self._parameters[name]
        updates, fast, slow, square, *contexts = zip(*parts, strict=True) if parts else [()] * 4
        update = layout.assemble(updates, parameter)
        # In the order of the state to begin with.
        after = {"step": before["step"] + 1}
        for key, arrays in zip(Moments._fields, (fast, slow, square), strict=True):
            after[key] = layout.assemble(arrays, before[key])
        after["evidence"] = evidence[name].to(before["evidence"]) if parts else before["evidence"]
        if CONTEXT in before or contexts:
            after[CONTEXT] = torch.cat(contexts[0]) if contexts else before[CONTEXT]
        return Change(name, update.to(parameter), after)


def _whole() -> bool:
    """Whether features of all entries have to be there at once."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def _rows_of(tensor: Tensor, part: slice) -> Tensor:
    """Some rows of an array; all, where it is the same for all."""
    return tensor if tensor.shape[3] == 1 else tensor[:, :, :, part]


def _answers(head: EntryHead, features: Tensor, offsets: Sequence[Tensor | None]) -> Tensor:
    """What the network of entries says, of the shape of the entries.

    Args:
        head: the network.
        features: `(runs, members, group, out, in, tap, features)`.
        offsets: of the hidden units; they broadcast to the entries.
    """
    hidden: Tensor = head.entry(features.flatten(1, -2))
    hidden = hidden.reshape(*features.shape[:-1], -1)
    for offset in offsets:
        if offset is not None:
            hidden = hidden + offset
    said: Tensor = head.output(torch.relu(hidden).flatten(1, -2))
    return said.reshape(features.shape[:-1])


def _of_neurons(layer: Affine, states: Tensor) -> Tensor:
    """Apply a layer to states `(runs, members, group, neurons, width)`."""
    heard: Tensor = layer(states.flatten(1, 3))
    return heard.reshape(*states.shape[:-1], -1)


def _mean_square(arrays: Tensor) -> Tensor:
    """Mean square of each bundle, so that it broadcasts."""
    return arrays.square().mean((2, 3, 4, 5), keepdim=True)


def changes(
    rule: "MatrixGNN",
    plans: Sequence[Plan],
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    state: State,
    *,
    fresh: bool,
) -> Iterator[Change]:
    """What changes of all parameters.

    Args:
        rule: whose step it is.
        plans: of the parameters; those of different plans exchange no messages.
        parameters: as for :meth:`Rule.stream`.
        gradients: as for :meth:`Rule.stream`.
        state: as for :meth:`Rule.stream`.
        fresh: whether to look at the whole model, or to go by what was last seen of it.
    """
    for plan in plans:
        stepped = Stepped(rule, plan, parameters, gradients, state)
        yield from stepped.changes(stepped.look() if fresh else stepped.recall())


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
        Plan(graph, names, rule.skeleton, rule.positions.structure, width)
        for names in alike.values()
    ]
