"""What is decided once for a graph and a set of parameters: who is stacked with whom."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ngopt.backends.switch import in_buckets
from ngopt.features.neurons import NOWHERE, Ends, Neurons, ends
from ngopt.features.tensors import TENSOR_FEATURES
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.matrix import Matrix, matrices
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.base_update import BaseUpdate
from ngopt.rules.buckets.stored import count, thin

LARGE = 2**24
"""Number of entries of a bucket that matters beside any model; more only in proportion to it."""

SHARE = 8
"""A bucket holds at most one in so many of the entries of a model."""

BLOCK = 2**22
BLOCK_SHARE = 16
"""The same two bounds for entries whose features are there at once."""

BLOCK_IN_CACHE = 2**14
"""The same on the CPU, where larger blocks take longer."""


@dataclass(frozen=True, eq=False)
class Member:
    """A bundle in a bucket.

    Args:
        name: of its parameter.
        number: of the bundle among those of the parameter.
        layout: of the parameter.
        matrix: the bundle as matrices whose momentum is orthogonalized, if it has any.
        ends: the sets of neurons that it connects.
        places: where its entries are in tensors, by the strides of these.
    """

    name: str
    number: int
    layout: Layout
    matrix: Matrix | None
    ends: Ends
    places: dict[Any, Any] = field(default_factory=dict)

    @property
    def bundle(self) -> Bundle:
        """The bundle."""
        return self.layout.bundles[self.number]


@dataclass(frozen=True, eq=False)
class Bucket:
    """Bundles whose arrays have one shape and are treated alike.

    Args:
        members: the bundles.
        start: place of the first among all bundles of the plan.
        outputs: places of their outputs, bundle by bundle and group by group, among those of all.
        inputs: the same of their inputs.
        shape: of each, `(group, out, in, tap)`.
        matrix: how each is made of matrices, if it is.
        thin: whether there are more numbers in the states of its neurons than in a bundle, which
            then has none.
    """

    members: tuple[Member, ...]
    start: int
    outputs: slice
    inputs: slice
    shape: tuple[int, int, int, int]
    matrix: Matrix | None
    thin: bool

    @property
    def talks(self) -> bool:
        """Whether there are neurons that hear of each other along its bundles."""
        return not self.thin and any(self.members[0].ends)

    def of(self, numbers: Tensor) -> Tensor:
        """Those of the members, `(runs, members)`, of numbers of all bundles, `(runs, bundles)`."""
        return numbers[:, self.start : self.start + len(self.members)]

    def at_outputs(self, lines: Tensor) -> Tensor:
        """What is known of its outputs, `(runs, members, group, out, ...)`.

        Args:
            lines: of the outputs of all bundles, `(runs, outputs, ...)`.
        """
        group, out, _, _ = self.shape
        own = lines[:, self.outputs]
        return own.reshape(len(own), len(self.members), group, out, *own.shape[2:])

    def at_inputs(self, lines: Tensor) -> Tensor:
        """The same of inputs."""
        group, _, into, _ = self.shape
        own = lines[:, self.inputs]
        return own.reshape(len(own), len(self.members), group, into, *own.shape[2:])

    def wide(self, numbers: Tensor) -> Tensor:
        """The same, so that they broadcast to arrays `(runs, members, group, out, in, tap)`."""
        return self.of(numbers)[..., None, None, None, None]


class Plan:
    """Who is stacked with whom, and where the neurons of each bundle stand in a table of all.

    Args:
        graph: describes the parameters.
        names: of the parameters.
        base_update: of the rule.
        structure: features of a bundle that the graph alone determines.
        width: size of a neuron's state; 0 if neurons have none.

    Attributes:
        buckets: all bundles; those of one bucket stand side by side wherever bundles do.
        neurons: number of rows of the table that are neurons.
        outputs: number of outputs of all bundles.
        inputs: number of inputs.
        stored: of each parameter, how many numbers are stored of its bundles.
        loops: what is made of the plan where loops are compiled, and
        spread: where processes share the parameters.
    """

    def __init__(
        self,
        graph: NeuralGraph,
        names: Sequence[str],
        base_update: BaseUpdate,
        structure: Callable[[NeuralGraph, Layout, Bundle], list[float]],
        width: int,
    ) -> None:
        self.names, self.width = tuple(names), width
        self.loops: dict[Any, Any] = {}
        self.spread: dict[Any, Any] = {}
        self.layouts = {name: graph.layout(name) for name in names}
        self.entries = sum(math.prod(layout.shape) for layout in self.layouts.values())
        self.buckets = self._buckets(base_update)
        self.outputs = self.buckets[-1].outputs.stop if self.buckets else 0
        self.inputs = self.buckets[-1].inputs.stop if self.buckets else 0
        self.stored = [count(layout.bundles, width) for layout in self.layouts.values()]
        members = [member for bucket in self.buckets for member in bucket.members]
        numbers = {name: number for number, name in enumerate(names)}
        self._constants = _Constants(
            owner=[numbers[member.name] for member in members],
            structure=[structure(graph, m.layout, m.bundle) for m in members],
            fixed=[
                base_update.fixed_scale(m.bundle, m.layout.kind, graph.shortest_path)
                for m in members
            ],
            usual=[base_update.usual_weight(m.bundle, m.layout.kind) for m in members],
            shares=[1 / len(m.layout.bundles) for m in members],
        )
        self._neurons(members)
        self._on: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def block(self, like: Tensor) -> int:
        """Number of entries whose features are there at once, where a tensor is."""
        if in_buckets([like]):
            return max(BLOCK, self.entries // BLOCK_SHARE)
        return BLOCK_IN_CACHE

    def _buckets(self, base_update: BaseUpdate) -> list[Bucket]:
        most = max(LARGE, self.entries // SHARE)
        found: dict[object, list[list[Member]]] = {}
        for member in self._members(base_update):
            group = found.setdefault(self._key(member), [[]])
            if group[-1] and (len(group[-1]) + 1) * member.bundle.numel > most:
                group.append([])
            group[-1].append(member)
        buckets: list[Bucket] = []
        start = outputs = inputs = 0
        # Those whose neurons have states first, of these matrices first.
        alike = chain.from_iterable(found.values())
        order = sorted(alike, key=lambda g: (self._thin(g[0].bundle), g[0].matrix is None))
        for members in order:
            bundle, matrix, size = members[0].bundle, members[0].matrix, len(members)
            groups, out, into, _ = bundle.shape
            rows = slice(outputs, outputs + size * groups * out)
            columns = slice(inputs, inputs + size * groups * into)
            kind = bundle.shape, matrix, self._thin(bundle)
            buckets.append(Bucket(tuple(members), start, rows, columns, *kind))
            start, outputs, inputs = start + size, rows.stop, columns.stop
        return buckets

    def _members(self, base_update: BaseUpdate) -> Iterable[Member]:
        for name, layout in self.layouts.items():
            found: Sequence[Matrix | None] = matrices(layout) if base_update.orthogonal else []
            found = found or [None] * len(layout.bundles)
            for number, (bundle, matrix) in enumerate(zip(layout.bundles, found, strict=True)):
                sides = NOWHERE if self._thin(bundle) else ends(bundle)
                yield Member(name, number, layout, matrix, sides)

    def _thin(self, bundle: Bundle) -> bool:
        return thin(bundle, self.width)

    def _key(self, member: Member) -> object:
        bundle, matrix = member.bundle, member.matrix
        sides = (bool(member.ends.out), bool(member.ends.into))
        if matrix is None:
            return bundle.shape, sides
        folded = tuple(bundle.sizes[d] for d in bundle.order)
        return bundle.shape, sides, folded, bundle.order, matrix.order, matrix.shape

    def _neurons(self, members: Sequence[Member]) -> None:
        """Give each neuron a row of a table; behind them stand rows for ends that have none."""
        offsets: dict[Neurons, int] = {}
        self.neurons = 0
        for member in members:
            group, out, into, _ = member.bundle.shape
            for side, size in zip(member.ends, (group * out, group * into), strict=True):
                if side and side not in offsets:
                    offsets[side] = self.neurons
                    self.neurons += size
        constants = self._constants
        for number, member in enumerate(members):
            group, out, into, _ = member.bundle.shape
            for side, size, rows in (
                (member.ends.out, group * out, constants.out),
                (member.ends.into, group * into, constants.into),
            ):
                begin = offsets[side] if side else self.neurons + number
                # Thin bundles, which may be very large, have no view of neurons.
                lone = 0 if self._thin(member.bundle) else size
                rows.append(range(begin, begin + size) if side else [begin] * lone)

    def _selected(self, rows: Sequence[Sequence[int]], side: int, heard: bool) -> list[int]:
        """Those of `rows` of each bundle that has a view of neurons, or that is heard."""
        found: list[int] = []
        for bucket in self.buckets:
            for place, member in enumerate(bucket.members):
                if not bucket.thin and (not heard or member.ends[side]):
                    found.extend(rows[bucket.start + place])
        return found

    def sizes_seen(self) -> list[int]:
        """How many numbers there are of each kind that is seen, in the order of :class:`.Seen`."""
        bundles = sum(len(bucket.members) for bucket in self.buckets)
        known = [bucket for bucket in self.buckets if self.width and not bucket.thin]
        states = [known[-1].outputs.stop, known[-1].inputs.stop] if known else [0, 0]
        singles = [*[bundles] * 3, bundles * TENSOR_FEATURES, *[bundles] * 3]
        return [self.outputs, self.inputs, *singles, *(n * self.width for n in states)]

    def _places(self) -> NDArray[np.int64]:
        """Places of what is stored, parameter by parameter, among what is seen, kind by kind."""
        begin = [0, *accumulate(self.sizes_seen())]
        found: dict[tuple[str, int], list[NDArray[np.int64]]] = {}
        for bucket in self.buckets:
            group, out, into, _ = bucket.shape
            for place, member in enumerate(bucket.members):
                rows = bucket.outputs.start + place * group * out, group * out
                columns = bucket.inputs.start + place * group * into, group * into
                own, context = (
                    (bucket.start + place, 1, 1),
                    (bucket.start + place, 1, TENSOR_FEATURES),
                )
                parts = [(*rows, 1), (*columns, 1), own, own, own, context, own, own, own]
                if self.width and not bucket.thin:
                    parts += [(*rows, self.width), (*columns, self.width)]
                found[member.name, member.number] = [
                    np.arange(at + first * width, at + (first + number) * width)
                    for at, (first, number, width) in zip(begin, parts, strict=False)
                ]
        ordered = [
            part
            for name, layout in self.layouts.items()
            for number in range(len(layout.bundles))
            for part in found[name, number]
        ]
        return np.concatenate([np.zeros(0, dtype=np.int64), *ordered])

    def on(self, like: Tensor) -> dict[str, Tensor]:
        """The plan's numbers as tensors.

        Args:
            like: gives dtype and device.

        Returns:
            `owner` `(bundles,)`, number of the parameter of each bundle; `structure` `(bundles,
            features)`; `fixed` and `usual` `(1, bundles)`, by what steps are scaled, and the RMS
            with which weights usually begin, 0 where it does not matter; `shares` `(1, bundles)`,
            of each in its parameter; `out_fans` and `in_fans` `(bundles, 1)`, one over the root of
            the number of outputs and inputs of a group, `out_ends` and `in_ends` their number in
            all groups; `out_bundle` and `in_bundle`, number of the bundle of
            each output and input; `out_group`, number of its group, and `groups`, how many outputs
            each group has; `out_rows` and `in_rows`, rows of the table for outputs and inputs of
            all bundles whose neurons have states; `out_heard` and `in_heard`, the same without
            those that stand for no neurons, and `out_said` and `in_said`, their bundles;
            `out_counts`, `in_counts` and `counts` `(neurons, 1)`, numbers of bundles that lead into
            a neuron, out of it, and both, at least 1; `stored` and `recalled`, places of what is
            stored among what is seen, and back.
        """
        key = like.device, like.dtype
        if key not in self._on:
            self._on[key] = self._tensors(like)
        return self._on[key]

    def _tensors(self, like: Tensor) -> dict[str, Tensor]:
        numbers, device = self._constants, like.device

        def floats(values: object) -> Tensor:
            return torch.tensor(values, dtype=like.dtype, device=device)

        def index(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        if like.is_meta:  # where numbers take no memory, and may be more than fit into any
            places = back = torch.empty(sum(self.stored), dtype=torch.int64, device=device)
        else:
            there = self._places()
            other = np.empty_like(there)
            other[there] = np.arange(len(there))
            places, back = (torch.from_numpy(found).to(device) for found in (there, other))

        def numbered(sizes: Sequence[int]) -> Tensor:
            """The number of each of some parts, as often as its size says."""
            parts = torch.arange(len(sizes), device=device)
            counts = torch.tensor(sizes, dtype=torch.int64, device=device)
            return parts.repeat_interleave(counts, output_size=sum(sizes))

        heard = [self._selected(numbers.out, 0, True), self._selected(numbers.into, 1, True)]
        members = [member for bucket in self.buckets for member in bucket.members]
        shapes = [member.bundle.shape for member in members]
        groups = [out for group, out, _, _ in shapes for _ in range(group)]
        bundles = [
            [[n] * len(rows) for n, rows in enumerate(side)] for side in (numbers.out, numbers.into)
        ]
        counts = [
            torch.bincount(torch.tensor(h, dtype=torch.int64), minlength=self.neurons)
            for h in heard
        ]
        return {
            "owner": index(numbers.owner),
            "structure": floats(numbers.structure),
            "fixed": floats([numbers.fixed]),
            "usual": floats([numbers.usual]),
            "shares": floats([numbers.shares]),
            "out_fans": floats([[out**-0.5] for _, out, _, _ in shapes]).reshape(-1, 1),
            "out_ends": floats([[g * out] for g, out, _, _ in shapes]).reshape(-1, 1),
            "in_ends": floats([[g * into] for g, _, into, _ in shapes]).reshape(-1, 1),
            "in_fans": floats([[into**-0.5] for _, _, into, _ in shapes]).reshape(-1, 1),
            "out_bundle": numbered([g * out for g, out, _, _ in shapes]),
            "in_bundle": numbered([g * into for g, _, into, _ in shapes]),
            "out_group": numbered(groups),
            "groups": floats(groups),
            "out_said": index(self._selected(bundles[0], 0, True)),
            "in_said": index(self._selected(bundles[1], 1, True)),
            "stored": places,
            "recalled": back,
            "out_rows": index(self._selected(numbers.out, 0, False)),
            "in_rows": index(self._selected(numbers.into, 1, False)),
            "out_heard": index(heard[0]),
            "in_heard": index(heard[1]),
            "out_counts": counts[0].clamp(min=1).to(like).unsqueeze(1),
            "in_counts": counts[1].clamp(min=1).to(like).unsqueeze(1),
            "counts": (counts[0] + counts[1]).clamp(min=1).to(like).unsqueeze(1),
        }


@dataclass
class _Constants:
    """Numbers of each bundle, in the order of the buckets."""

    owner: list[int]
    structure: list[list[float]]
    fixed: list[float]
    usual: list[float]
    shares: list[float]
    out: list[Sequence[int]] = field(default_factory=list)
    into: list[Sequence[int]] = field(default_factory=list)


def stacked(bucket: Bucket, tensors: Mapping[str, Tensor]) -> Tensor:
    """Arrays of the members, `(runs, members, group, out, in, tap)`; a view if there is only one.

    Args:
        bucket: the bucket.
        tensors: by name of the parameter, of its shape, or with a dimension for runs in front.
    """
    arrays = []
    for member in bucket.members:
        tensor, view = tensors[member.name], member.bundle.view
        if tensor.dim() > len(member.layout.shape):
            arrays.append(torch.stack([view(run) for run in tensor]))
        else:
            arrays.append(view(tensor).unsqueeze(0))
    return arrays[0].unsqueeze(1) if len(arrays) == 1 else torch.stack(arrays, 1)
