"""The graph context: features and learned sizes of bundles, and states of neurons."""

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor

from ngopt.features.bundle_features import TENSOR_FEATURES, step_features
from ngopt.features.bundle_statistics import Products
from ngopt.features.scale import floored, log_ratio, root, root_inverse
from ngopt.rules.buckets.bucket_entries import BucketStatistics
from ngopt.rules.buckets.plan import Plan

if TYPE_CHECKING:
    from ngopt.rules.matrix_gnn import MatrixGNN, MessageRound

PRODUCT_INDEX = {name: place for place, name in enumerate(Products._fields)}
COMPARED = ("adam", "gradient", "weight")
"""Squares that go into the features of neurons."""


class GraphContext(NamedTuple):
    """The graph context of all bundles of a plan, which may be cached between refreshes.

    Args:
        rows: one factor of a rank-one approximation of the mean square, `(runs, outputs)`.
        columns: the other, `(runs, inputs)`.
        fast: mean square of the fast momentum, `(runs, bundles)`, as all that follow.
        weight: of the weights.
        base: of the base direction.
        bundle_features: `(runs, bundles, features)`.
        scale: learned factor of its step.
        decay: learned pull of weights towards 0.
        slow: factor of the weight of its slow momentum, by age, noise and what is learned.
        evidence: what share of a full step its gradients have earned.
        out: states of output neurons, `(runs, outputs, width)`, of the bundles whose neurons have
            any; None without.
        into: states of input neurons, `(runs, inputs, width)`; None without.
    """

    rows: Tensor
    columns: Tensor
    fast: Tensor
    weight: Tensor
    base: Tensor
    bundle_features: Tensor
    scale: Tensor
    decay: Tensor
    slow: Tensor
    evidence: Tensor
    out: Tensor | None
    into: Tensor | None

    def pack(self, plan: Plan) -> list[Tensor]:
        """Pack the context of each parameter into numbers, `(runs, numbers)`."""
        whole = torch.cat([tensor.flatten(1) for tensor in self if tensor is not None], 1)
        whole = whole.index_select(1, plan.on(whole)["packed"])
        return list(torch.split(whole, plan.packed_sizes, 1))

    @classmethod
    def unpack(cls, plan: Plan, packed: Tensor) -> "GraphContext":
        """Inverse of :meth:`pack`.

        Args:
            plan: the plan.
            packed: of one parameter after the other, `(runs, numbers)`; or as many zeros.
        """
        whole = packed.index_select(1, plan.on(packed)["unpacked"])
        parts: list[Tensor | None] = list(torch.split(whole, plan.context_sizes(), 1))
        for place, width in enumerate((TENSOR_FEATURES, *[None] * 4, plan.width, plan.width), 5):
            part = parts[place]
            if width is not None and part is not None:
                rows = part.shape[1] // max(1, width)
                parts[place] = part.reshape(len(part), rows, width) if rows or place == 5 else None
        return cls(*parts)  # type: ignore[arg-type]


class ContextBuilder:
    """Computes the graph context of all bundles of a plan.

    Args:
        rule: whose weights are used.
        plan: of the parameters.
        statistics: of all bundles.
        counts: numbers of gradients of each bundle, `(runs, bundles)`.
        evidence: of each bundle before, `(runs, bundles)`.
    """

    def __init__(
        self,
        rule: "MatrixGNN",
        plan: Plan,
        statistics: BucketStatistics,
        counts: Tensor,
        evidence: Tensor,
    ) -> None:
        self._rule, self._plan, self._statistics = rule, plan, statistics
        self._means = statistics.numbers
        self._fixed = plan.on(self._means)
        products = len(PRODUCT_INDEX)
        self._slow, self._base = self._means[..., products : products + 2].unbind(-1)
        self._squares = self._means[..., products + 2 :]
        self._counts, self._context = counts, self._features(counts)
        fast, square = self._mean_of("fast"), self._mean_of("square")
        self._evidence = rule.base_update.evidence(evidence, fast, self._slow, square, counts)
        self._signal = rule.base_update.signal(fast, square, counts)
        self._out: Tensor | None = None
        self._into: Tensor | None = None
        if self._has_states():
            self._out, self._into = self._exchange_messages()

    def _mean_of(self, product: str) -> Tensor:
        return self._means[..., PRODUCT_INDEX[product]]

    def _features(self, counts: Tensor) -> Tensor:
        """Features of all bundles; see :func:`~ngopt.features.bundle_features.tensor_features`."""
        fast, gradient, square = map(self._mean_of, ("fast", "gradient", "square"))
        above = torch.stack([fast, self._slow, gradient], -1)
        below = torch.stack([gradient, fast, square], -1)
        structure = self._fixed["structure"].expand(len(counts), -1, -1)
        parts = [root(self._mean_of("adam")).unsqueeze(-1), log_ratio(above, below)]
        return torch.cat([*parts, step_features(counts.to(fast)), structure], -1)

    def build(self) -> GraphContext:
        """Compute the context."""
        rule, fixed = self._rule, self._fixed
        sizes, decays, *slow = self.outputs.unbind(-1)
        base_update, (raw,) = rule.base_update, slow or (torch.zeros_like(sizes),)
        learned = (
            base_update.scale(sizes),
            base_update.decay(decays),
            base_update.slow_factor(raw, self._counts.to(raw), self._signal),
        )
        square = PRODUCT_INDEX["square"]
        rows, columns = self._statistics.rows[:, square], self._statistics.columns[:, square]
        total = rows.new_zeros(len(rows), len(fixed["groups"]))
        groups = floored(total.index_add(1, fixed["out_group"], rows) / fixed["groups"])
        rows = rows / groups.index_select(1, fixed["out_group"])
        bundles = (self._mean_of("fast"), self._mean_of("weight"), self._base, self._context)
        return GraphContext(
            rows, columns, *bundles, *learned, self._evidence, self._out, self._into
        )

    @property
    def outputs(self) -> Tensor:
        """Raw outputs of the network for bundles, `(runs, bundles, outputs)`."""
        return self._rule.outputs(self._context, self._mean_states(self._out, self._into))

    def _has_states(self) -> bool:
        return bool(self._plan.width) and len(self._fixed["out_rows"]) > 0

    def _mean_states(self, out: Tensor | None, into: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Mean states at both ends of all bundles, `(runs, bundles, width)`, for `graph_sizes`."""
        if not (self._rule.graph_sizes and self._plan.width):
            return None
        runs, bundles = self._means.shape[:2]
        means = []
        for states, side in ((out, "out"), (into, "in")):
            total = self._means.new_zeros(runs, bundles, self._plan.width)
            if states is not None:
                bundle = self._fixed[f"{side}_bundle"][: states.shape[1]]
                total = _sums(states, bundle, bundles)
            means.append(total / self._fixed[f"{side}_ends"])
        return means[0], means[1]

    def _exchange_messages(self) -> tuple[Tensor, Tensor]:
        """Pass messages between neurons; returns states at both ends of all bundles with states."""
        rule = self._rule
        features = self._neuron_features()
        if not rule.neuron_statistics:
            features = torch.zeros_like(features)
        table = torch.tanh(rule.start(features))
        sources = torch.tanh(rule.source(self._context))
        for module in rule.rounds:
            mix = cast("MessageRound", module)
            table = mix(table, self._messages(*self._states_at_ends(table, sources), mix))
        return self._states_at_ends(table, sources)

    def _states_at_ends(self, table: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """States at both ends of bundles; an end without neurons has the state of the bundle."""
        everything = torch.cat([table, sources], 1)
        out, into = (everything.index_select(1, self._fixed[n]) for n in ("out_rows", "in_rows"))
        return out, into

    def _neuron_features(self) -> Tensor:
        """Features of all neurons, `(runs, neurons, NEURON_FEATURES)`.

        They are the mean over the bundles that lead into the neuron, then over those that lead out
        of it, of the row's (column's) RMS of Adam direction, gradient and weight relative to the
        whole bundle's (bounded log ratios) and of the cosine between gradient and fast momentum.
        Zeros where there is no such bundle.
        """
        neurons = self._plan.neurons
        sides = []
        for means, side in ((self._statistics.rows, "out"), (self._statistics.columns, "in")):
            rows = self._fixed[f"{side}_rows"]
            lines = self._line_statistics(means[..., : len(rows)], self._fixed[f"{side}_bundle"])
            # Ends without neurons have rows behind those of neurons, which are dropped.
            total = _sums(lines, rows, neurons + self._means.shape[1])[:, :neurons]
            sides.append(total / self._fixed[f"{side}_counts"])
        return torch.cat(sides, 2)

    def _line_statistics(self, means: Tensor, bundle: Tensor) -> Tensor:
        """Statistics of some outputs or inputs, `(runs, lines, STATISTICS)`."""
        products = Products(*means.unbind(1))
        cosine = products.alignment * root_inverse(products.gradient) * root_inverse(products.fast)
        squares = torch.stack([getattr(products, name) for name in COMPARED], -1)
        whole = torch.stack([self._mean_of(name) for name in COMPARED], -1)
        whole = whole.index_select(1, bundle[: means.shape[2]])
        return torch.cat([log_ratio(squares, whole), cosine.unsqueeze(-1)], -1)

    def _messages(self, out: Tensor, into: Tensor, mix: "MessageRound") -> Tensor:
        """Mean message of the bundles of each neuron, `(runs, neurons, width)`."""
        messages: list[list[Tensor]] = [[], []]
        for make in self._statistics.messages:
            for found, product in zip(messages, make().products(out, into), strict=True):
                if product is not None:
                    found.append(product)
        total = self._means.new_zeros(())
        inverses = root_inverse(self._squares)
        sides = ("out", mix.to_out, "in_fans"), ("in", mix.to_in, "out_fans")
        for found, (side, layer, fans) in zip(messages, sides, strict=True):
            if found:
                factors = (inverses * self._fixed[fans]).index_select(
                    1, self._fixed[f"{side}_message_bundle"]
                )
                transformed = layer((torch.cat(found, 1) * factors.unsqueeze(-1)).flatten(2))
                total = total + _sums(
                    transformed, self._fixed[f"{side}_receivers"], self._plan.neurons
                )
        return total / self._fixed["counts"]


def _sums(lines: Tensor, places: Tensor, count: int) -> Tensor:
    """Sum the lines with the same index, `(runs, count, width)`.

    Args:
        lines: `(runs, lines, width)`.
        places: index of each line, `(lines,)`.
        count: number of indices.
    """
    total = lines.new_zeros(len(lines), count, lines.shape[2])
    if len(lines) == 1:  # along the first dimension it is several times as fast
        return total[0].index_add(0, places, lines[0]).unsqueeze(0)
    return total.index_add(1, places, lines)
