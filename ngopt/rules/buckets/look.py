"""A look at the whole model: what each bundle is like, and what its neurons hear of the others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor

from ngopt.features.neurons import STATISTICS
from ngopt.features.scale import floored, log_ratio, root, root_inverse
from ngopt.features.survey import Products
from ngopt.features.tensors import step_features
from ngopt.rules.buckets.entries import Surveyed
from ngopt.rules.buckets.plan import Bucket, Plan, split
from ngopt.rules.buckets.stored import shapes
from ngopt.rules.layers.messages import Round

if TYPE_CHECKING:
    from ngopt.rules.matrix_gnn import MatrixGNN

PRODUCTS = {name: place for place, name in enumerate(Products._fields)}


class Seen(NamedTuple):
    """What is seen of the bundles of a bucket; it is stored until the next look.

    Args:
        rows: one factor of a rank-one approximation of the mean square, `(runs, members, group,
            out)`.
        columns: the other, `(runs, members, group, in)`.
        fast: mean square of the fast momentum, `(runs, members)`, as all that follow.
        weight: of the weights.
        base: of the base direction.
        context: features of each bundle, `(runs, members, features)`.
        scale: learned factor of its step.
        evidence: what share of a full step its gradients have earned.
        out: states of its output neurons, `(runs, members, group, out, width)`; None without.
        into: states of its input neurons, `(runs, members, group, in, width)`; None without.
    """

    rows: Tensor
    columns: Tensor
    fast: Tensor
    weight: Tensor
    base: Tensor
    context: Tensor
    scale: Tensor
    evidence: Tensor
    out: Tensor | None
    into: Tensor | None

    def stored(self) -> Tensor:
        """All numbers, `(runs, members, numbers)`, of each bundle in the order of a stored view."""
        return torch.cat(
            [t.flatten(2) if t.dim() > 2 else t[..., None] for t in self if t is not None], 2
        )

    @classmethod
    def recalled(cls, bucket: Bucket, stored: Tensor, width: int) -> "Seen":
        """Inverse of :meth:`stored`, as views.

        Args:
            bucket: the bucket.
            stored: what it returned, or as many zeros.
            width: size of a neuron's state; 0 if neurons have none.
        """
        found: list[Tensor | None] = []
        at = 0
        for shape in shapes(bucket.members[0].bundle, width):
            size = torch.Size(shape).numel()
            part = stored[..., at : at + size]
            found.append(part.reshape(*stored.shape[:2], *shape))
            at += size
        return cls(*found, *[None] * (len(cls._fields) - len(found)))  # type: ignore[arg-type]


class Look:
    """Sees all bundles of a plan.

    Args:
        rule: whose weights are used.
        plan: of the parameters.
        surveys: of each bucket.
        counts: numbers of gradients of each bundle, `(runs, bundles)`.
        evidence: of each bundle before, `(runs, bundles)`.
    """

    def __init__(
        self,
        rule: "MatrixGNN",
        plan: Plan,
        surveys: Sequence[Surveyed],
        counts: Tensor,
        evidence: Tensor,
    ) -> None:
        self._rule, self._plan, self._surveys = rule, plan, surveys
        self._numbers = torch.cat([survey.numbers for survey in surveys], 1)
        self._fixed = plan.on(self._numbers)
        products = len(PRODUCTS)
        self._slow, self._base = self._numbers[..., products : products + 2].unbind(-1)
        self._squares = self._numbers[..., products + 2 :]
        self._context = self._features(counts)
        fast, square = self._of("fast"), self._of("square")
        self._evidence = rule.skeleton.evidence(evidence, fast, self._slow, square, counts)

    def _of(self, product: str) -> Tensor:
        return self._numbers[..., PRODUCTS[product]]

    def _features(self, counts: Tensor) -> Tensor:
        """Features of all bundles; see :func:`~ngopt.features.tensors.tensor_features`."""
        fast, gradient, square = map(self._of, ("fast", "gradient", "square"))
        above = torch.stack([fast, self._slow, gradient], -1)
        below = torch.stack([gradient, fast, square], -1)
        structure = self._fixed["structure"].expand(len(counts), -1, -1)
        parts = [root(self._of("adam")).unsqueeze(-1), log_ratio(above, below)]
        return torch.cat([*parts, step_features(counts.to(fast)), structure], -1)

    def seen(self) -> list[Seen]:
        """What is seen of each bucket."""
        plan, rule = self._plan, self._rule
        ends = self._ends() if plan.width else [(None, None)] * len(plan.buckets)
        scales = rule.skeleton.scale(rule.sizes(self._context, self._end_means(ends)))
        found = []
        for bucket, survey, (out, into) in zip(plan.buckets, self._surveys, ends, strict=True):
            rows = survey.rows.square
            groups = floored(rows.mean(-1, keepdim=True))
            fast, weight = bucket.of(self._of("fast")), bucket.of(self._of("weight"))
            found.append(
                Seen(
                    rows / groups,
                    survey.columns.square,
                    fast,
                    weight,
                    bucket.of(self._base),
                    bucket.of(self._context),
                    bucket.of(scales),
                    bucket.of(self._evidence),
                    out,
                    into,
                )
            )
        return found

    def _end_means(
        self, ends: Sequence[tuple[Tensor | None, Tensor | None]]
    ) -> tuple[Tensor, Tensor] | None:
        """Mean states at both ends of all bundles, `(runs, bundles, width)`, if they count."""
        if not (self._rule.graph_sizes and self._plan.width):
            return None
        runs = len(self._numbers)
        means: list[list[Tensor]] = [[], []]
        for bucket, both in zip(self._plan.buckets, ends, strict=True):
            blank = self._numbers.new_zeros(runs, len(bucket.members), self._plan.width)
            for found, states in zip(means, both, strict=True):
                found.append(blank if states is None else states.mean((2, 3)))
        return torch.cat(means[0], 1), torch.cat(means[1], 1)

    def _ends(self) -> list[tuple[Tensor | None, Tensor | None]]:
        """Let neurons talk to one another; states at both ends of the bundles of each bucket."""
        rule = self._rule
        features = self._neuron_features()
        if not rule.neuron_statistics:
            features = torch.zeros_like(features)
        table = torch.tanh(rule.start(features))
        sources = torch.tanh(rule.source(self._context))
        for each in rule.rounds:
            mix = cast(Round, each)
            said = self._messages(self._at_ends(table, sources), mix)
            table = mix(table, said)
        return self._at_ends(table, sources)

    def _at_ends(self, table: Tensor, sources: Tensor) -> list[tuple[Tensor | None, Tensor | None]]:
        """States at the ends of bundles; where there are no neurons, the source of the bundle."""
        everything = torch.cat([table, sources], 1)
        sides: list[dict[int, Tensor]] = []
        for name, side in (("out_rows", 1), ("in_rows", 2)):
            states = everything.index_select(1, self._fixed[name])
            buckets = [bucket for bucket in self._plan.buckets if not bucket.thin]
            sizes = [len(b.members) * b.shape[0] * b.shape[side] for b in buckets]
            parts = split(states, sizes)
            sides.append({})
            for b, part in zip(buckets, parts, strict=True):
                shape = (len(part), len(b.members), b.shape[0], b.shape[side], -1)
                sides[-1][b.start] = part.reshape(shape)
        return [
            (None, None) if bucket.thin else (sides[0][bucket.start], sides[1][bucket.start])
            for bucket in self._plan.buckets
        ]

    def _neuron_features(self) -> Tensor:
        """Features of all neurons, `(runs, neurons, NEURON_FEATURES)`.

        They are the mean over the bundles that lead into the neuron, then over those that lead out
        of it, of the row's (column's) RMS of Adam direction, gradient and weight relative to the
        whole bundle's (bounded log ratios) and of the cosine between gradient and fast momentum.
        Zeros where there is no such bundle.
        """
        said: list[list[Tensor]] = [[], []]
        for bucket, survey in zip(self._plan.buckets, self._surveys, strict=True):
            ends = bucket.members[0].ends
            for found, side, means in zip(said, ends, (survey.rows, survey.columns), strict=True):
                if side:
                    found.append(_statistics(means).flatten(1, 3))
        incoming = self._added(said[0], "out_heard", STATISTICS)
        outgoing = self._added(said[1], "in_heard", STATISTICS)
        counts = self._fixed["out_counts"], self._fixed["in_counts"]
        pairs = zip((incoming, outgoing), counts, strict=True)
        return torch.cat([total / number for total, number in pairs], 2)

    def _added(self, said: Sequence[Tensor], rows: str, width: int) -> Tensor:
        """Sums per neuron of what bundles say, `(runs, neurons, width)`."""
        total = self._numbers.new_zeros(len(self._numbers), self._plan.neurons, width)
        return total.index_add(1, self._fixed[rows], torch.cat(list(said), 1)) if said else total

    def _messages(
        self, states: Sequence[tuple[Tensor | None, Tensor | None]], mix: Round
    ) -> Tensor:
        """Mean per neuron of what its bundles say, `(runs, neurons, width)`."""
        said: list[list[Tensor]] = [[], []]
        for bucket, survey, (out, into) in zip(
            self._plan.buckets, self._surveys, states, strict=True
        ):
            if survey.matrices is None or out is None or into is None:
                continue
            matrices = survey.matrices()
            ends, (_, outputs, inputs, _) = bucket.members[0].ends, bucket.shape
            factors = root_inverse(bucket.of(self._squares))[:, :, None, :, None, None]
            if ends.out:
                said[0].append(_joined(matrices @ into.unsqueeze(3) * (factors * inputs**-0.5)))
            if ends.into:
                said[1].append(_joined(matrices.mT @ out.unsqueeze(3) * (factors * outputs**-0.5)))
        width = self._plan.width
        total = self._numbers.new_zeros(())
        for found, layer, rows in zip(
            said, (mix.to_out, mix.to_in), ("out_heard", "in_heard"), strict=True
        ):
            if found:
                words = layer(torch.cat(found, 1))
                total = total + self._added([words], rows, width)
        return total / self._fixed["counts"]


def _joined(products: Tensor) -> Tensor:
    """Bring `(runs, members, group, matrices, neurons, width)` to one row for each neuron."""
    return products.transpose(3, 4).flatten(4).flatten(1, 3)


def _statistics(means: Products) -> Tensor:
    """Statistics of rows or columns, `(runs, members, group, neurons, STATISTICS)`."""
    cosine = means.alignment * root_inverse(means.gradient) * root_inverse(means.fast)
    squares = torch.stack([means.adam, means.gradient, means.weight], -1)
    ratios = log_ratio(squares, squares.mean((2, 3), keepdim=True))
    return torch.cat([ratios, cosine.unsqueeze(-1)], -1)
