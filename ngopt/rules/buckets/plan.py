"""The plan of a step, made once for a graph and a set of parameters: its buckets and indices."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ngopt.backends.dispatch import minimizes_operations
from ngopt.features.neurons import NOWHERE, Neurons, ends
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.matrix import Matrix, matrices
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.base_update import BaseUpdate
from ngopt.rules.buckets.bucket import Bucket, Member
from ngopt.rules.buckets.packing import context_sizes, is_stateless, packed_places, packed_size
from ngopt.rules.buckets.whitening import is_whitened, whitening_sizes

LARGE = 2**24
"""Largest number of entries of a bucket, unless the model is so large that `SHARE` allows more."""

SHARE = 8
"""A bucket may also hold one in so many of the entries of a model."""

BLOCK = 2**22
BLOCK_SHARE = 16
"""The same two bounds for the number of entries whose features are in memory at once."""

BLOCK_IN_CACHE = 2**14
"""The same on the CPU, where smaller blocks stay in the cache."""


class Plan:
    """The buckets of some parameters, and the index of each of their neurons in a table of all.

    Args:
        graph: describes the parameters.
        names: of the parameters.
        base_update: of the rule.
        structure: features of a bundle that the graph alone determines.
        width: size of a neuron's state; 0 if neurons have none.

    Attributes:
        buckets: all bundles, in the order of all tensors with a dimension for bundles.
        neurons: number of rows of the table that are neurons.
        outputs: number of outputs of all bundles.
        inputs: number of inputs of all bundles.
        packed_sizes: size of the packed graph context of each parameter.
        covariances: number of covariances of each parameter, by name; empty if none are kept.
        loops: cache of compiled loops.
        sharded_loops: cache of compiled loops for sharded parameters.
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
        self.sharded_loops: dict[Any, Any] = {}
        self.layouts = {name: graph.layout(name) for name in names}
        self.entries = sum(math.prod(layout.shape) for layout in self.layouts.values())
        self.buckets = self._buckets(base_update)
        self.outputs = self.buckets[-1].outputs.stop if self.buckets else 0
        self.inputs = self.buckets[-1].inputs.stop if self.buckets else 0
        self.packed_sizes = [packed_size(layout.bundles, width) for layout in self.layouts.values()]
        self.covariances: dict[str, dict[str, int]] = {}
        if base_update.whitening_limit:
            self.covariances = {
                name: whitening_sizes(layout, base_update) for name, layout in self.layouts.items()
            }
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
        if minimizes_operations([like]):
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
        # Buckets with states of neurons come first, and among them matrices.
        grouped = chain.from_iterable(found.values())
        order = sorted(
            grouped, key=lambda g: (self._is_stateless(g[0].bundle), g[0].matrix is None)
        )
        for members in order:
            bundle, matrix, size = members[0].bundle, members[0].matrix, len(members)
            groups, out, into, _ = bundle.shape
            rows = slice(outputs, outputs + size * groups * out)
            columns = slice(inputs, inputs + size * groups * into)
            kind = bundle.shape, matrix, self._is_stateless(bundle)
            buckets.append(Bucket(tuple(members), start, rows, columns, *kind))
            start, outputs, inputs = start + size, rows.stop, columns.stop
        return buckets

    def _members(self, base_update: BaseUpdate) -> Iterable[Member]:
        for name, layout in self.layouts.items():
            found: Sequence[Matrix | None] = matrices(layout) if base_update.orthogonal else []
            found = found or [None] * len(layout.bundles)
            whitened = is_whitened(layout, base_update)
            for number, (bundle, matrix) in enumerate(zip(layout.bundles, found, strict=True)):
                sides = NOWHERE if self._is_stateless(bundle) else ends(bundle)
                yield Member(name, number, layout, matrix, whitened, sides)

    def _is_stateless(self, bundle: Bundle) -> bool:
        return is_stateless(bundle, self.width)

    def _key(self, member: Member) -> object:
        bundle, matrix = member.bundle, member.matrix
        sides = (bool(member.ends.out), bool(member.ends.into))
        if matrix is None:
            return bundle.shape, sides
        folded = tuple(bundle.sizes[d] for d in bundle.order)
        own = member.whitened, matrix.order, matrix.shape
        return bundle.shape, sides, folded, bundle.order, *own

    def _neurons(self, members: Sequence[Member]) -> None:
        """Give each neuron a row of a table; rows for ends without neurons come last."""
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
                # Stateless bundles, which may be very large, need no rows.
                count = 0 if self._is_stateless(member.bundle) else size
                rows.append(range(begin, begin + size) if side else [begin] * count)

    def _selected(self, rows: Sequence[Sequence[int]], side: int, only_neurons: bool) -> list[int]:
        """`rows` of the bundles with states; without ends that have no neurons if asked for."""
        found: list[int] = []
        for bucket in self.buckets:
            for place, member in enumerate(bucket.members):
                if not bucket.stateless and (not only_neurons or member.ends[side]):
                    found.extend(rows[bucket.start + place])
        return found

    def context_sizes(self) -> list[int]:
        """Numbers in each field of a graph context; see :class:`.GraphContext`."""
        return context_sizes(self.buckets, self.width)

    def on(self, like: Tensor) -> dict[str, Tensor]:
        """The constants and indices of the plan as tensors.

        Args:
            like: gives dtype and device.

        Returns:
            * `owner` `(bundles,)`: index of the parameter of each bundle.
            * `structure` `(bundles, features)`: features that the graph alone determines.
            * `fixed` and `usual` `(1, bundles)`: factor of steps, and the RMS with which weights
              usually begin; 0 where it does not matter.
            * `shares` `(1, bundles)`: share of each bundle in its parameter.
            * `out_fans` and `in_fans` `(bundles, 1)`: one over the root of the number of outputs
              and inputs of a group; `out_ends` and `in_ends`: their number in all groups.
            * `out_bundle` and `in_bundle`: index of the bundle of each output and input.
            * `out_group`: index of the group of each output; `groups`: outputs of each group.
            * `out_rows` and `in_rows`: rows of the table for outputs and inputs of all bundles
              whose neurons have states.
            * `out_receivers` and `in_receivers`: the same without ends that have no neurons;
              `out_message_bundle` and `in_message_bundle`: their bundles.
            * `out_counts`, `in_counts` and `counts` `(neurons, 1)`: numbers of bundles that lead
              into a neuron, out of it, and both; at least 1.
            * `packed` and `unpacked`: indices that pack a graph context, and back.
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

        if like.is_meta:  # where there may be more numbers than fit into memory
            places = back = torch.empty(sum(self.packed_sizes), dtype=torch.int64, device=device)
        else:
            there = packed_places(self.buckets, self.layouts, self.width)
            other = np.empty_like(there)
            other[there] = np.arange(len(there))
            places, back = (torch.from_numpy(found).to(device) for found in (there, other))

        def numbered(sizes: Sequence[int]) -> Tensor:
            """The number of each of some parts, as often as its size says."""
            parts = torch.arange(len(sizes), device=device)
            counts = torch.tensor(sizes, dtype=torch.int64, device=device)
            return parts.repeat_interleave(counts, output_size=sum(sizes))

        receivers = [self._selected(numbers.out, 0, True), self._selected(numbers.into, 1, True)]
        members = [member for bucket in self.buckets for member in bucket.members]
        shapes = [member.bundle.shape for member in members]
        groups = [out for group, out, _, _ in shapes for _ in range(group)]
        bundles = [
            [[n] * len(rows) for n, rows in enumerate(side)] for side in (numbers.out, numbers.into)
        ]
        counts = [
            torch.bincount(torch.tensor(h, dtype=torch.int64), minlength=self.neurons)
            for h in receivers
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
            "out_message_bundle": index(self._selected(bundles[0], 0, True)),
            "in_message_bundle": index(self._selected(bundles[1], 1, True)),
            "packed": places,
            "unpacked": back,
            "out_rows": index(self._selected(numbers.out, 0, False)),
            "in_rows": index(self._selected(numbers.into, 1, False)),
            "out_receivers": index(receivers[0]),
            "in_receivers": index(receivers[1]),
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
