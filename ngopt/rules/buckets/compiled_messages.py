"""Messages along many bundles at once, by matrix products in C."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ngopt.backends.cpu.c_functions import multiply
from ngopt.backends.tables import Addresses
from ngopt.features.bundle_statistics import MATRICES
from ngopt.rules.buckets.memory_layout import Segment

FLOAT = 4
"""Bytes of a number."""

CHUNK = 2**17
"""Number of entries whose matrices of messages are in memory at once. They stay in the cache, where
computing them anew for each round takes less time than reading them from memory."""


class MessageRoute(NamedTuple):
    """Messages from the lines at one end of matrices to the neurons at the other end.

    Args:
        matrix: index of each matrix among those in memory.
        run: of each matrix.
        receivers: index of its first receiving line.
        senders: index of its first sending line.
        sizes: of each matrix, for :func:`.multiply`.
    """

    matrix: Addresses
    run: Addresses
    receivers: Addresses
    senders: Addresses
    sizes: Addresses

    def send(self, places: Addresses, states: Tensor, products: Tensor) -> None:
        """Write the products with all matrices.

        Args:
            places: addresses of the matrices.
            states: of all senders, `(runs, lines, width)`, contiguous.
            products: for all receivers, `(runs, lines, MATRICES, width)`.
        """
        receivers, senders, width = products.shape[1], states.shape[1], states.shape[2] * FLOAT
        begin = states.data_ptr() + (self.run * senders + self.senders) * width
        end = products.data_ptr() + (self.run * receivers + self.receivers) * MATRICES * width
        where = np.stack([places[self.matrix], begin, end], 1)
        multiply(self.sizes, where, MATRICES, states.shape[2])


MessageRoutes = tuple[MessageRoute, MessageRoute]
"""To outputs and to inputs."""


class MessageGroup:
    """Segments whose messages are computed together.

    Args:
        segments: the segments; those of a bucket stand together.
        run: of each matrix of all segments, number of the run.
        ends: of each, where its outputs and its inputs begin among those of all bundles.

    Attributes:
        lines: numbers of receiving outputs and inputs.
        tapped: segments whose matrices are means over taps.
        few: indices of all other matrices, if they are few.
        kept: routes along the matrices of both, which stay in memory.
        chunks: indices and routes of all other matrices in chunks, if they are many.
    """

    def __init__(
        self, segments: Sequence[Segment], run: Addresses, ends: Sequence[Addresses]
    ) -> None:
        self._run, self._ends = run, ends
        self.lines = [0, 0]
        self._first: dict[Segment, tuple[int, int]] = {}
        bucket = None
        for segment in segments:
            if segment.bucket is not bucket:
                begin = self.lines.copy()
                bucket = segment.bucket
                for side, lines in enumerate((bucket.outputs, bucket.inputs)):
                    receives = bool(bucket.members[0].ends[side])
                    self.lines[side] += receives * (lines.stop - lines.start)
            self._first[segment] = begin[0] - bucket.outputs.start, begin[1] - bucket.inputs.start
        self.tapped = [segment for segment in segments if segment.bucket.shape[3] > 1]
        kept = [(segment, item) for segment in self.tapped for item in segment.items]
        chunks = _chunks(segment for segment in segments if segment.bucket.shape[3] == 1)
        few = chunks.pop() if len(chunks) == 1 else []
        self.few = _items(few)
        self.kept = self._routes(kept + few)
        self.chunks = [(_items(chunk), self._routes(chunk)) for chunk in chunks]

    def _routes(self, chosen: Sequence[tuple[Segment, int]]) -> MessageRoutes:
        return self._route(chosen, 0), self._route(chosen, 1)

    def _route(self, chosen: Sequence[tuple[Segment, int]], side: int) -> MessageRoute:
        rows: list[tuple[int, ...]] = []
        for number, (segment, item) in enumerate(chosen):
            if segment.bucket.members[0].ends[side]:
                receivers, senders = segment.bucket.shape[1 + side], segment.bucket.shape[2 - side]
                # Rows of the matrices are outputs, or inputs if they are turned.
                steps = (
                    (senders, 1) if segment.matrix_layout.turned == bool(side) else (1, receivers)
                )
                first, other = (int(self._ends[n][item]) for n in (side, 1 - side))
                own = int(self._run[item]), first + self._first[segment][side], other
                rows.append((number, *own, receivers, senders, *steps))
        table = np.array(rows, dtype=np.int64).reshape(-1, 8)
        matrix, run, receivers, senders = table[:, :4].T.copy()
        return MessageRoute(matrix, run, receivers, senders, table[:, 4:].copy())


def _chunks(segments: Iterable[Segment]) -> list[list[tuple[Segment, int]]]:
    """Divide matrices of segments into chunks, each matrix as a segment and an index."""
    found: list[list[tuple[Segment, int]]] = []
    room = 0
    for segment in segments:
        for item in segment.items:
            if not found or room + segment.entries > CHUNK:
                found.append([])
                room = 0
            found[-1].append((segment, item))
            room += segment.entries
    return found


def _items(chosen: Sequence[tuple[Segment, int]]) -> Addresses:
    return np.array([item for _, item in chosen], dtype=np.int64)


class CompiledMessages:
    """Computes messages along a group.

    Args:
        group: the group.
        kept: addresses of the matrices that stay in memory.
        memory: of these matrices.
        matrices_of: computes a chunk; returns addresses of its matrices, and their memory.
    """

    def __init__(
        self,
        group: MessageGroup,
        kept: Addresses,
        memory: Sequence[Tensor],
        matrices_of: Callable[[Addresses], tuple[Addresses, Tensor]],
    ) -> None:
        self._group, self._kept, self._memory, self._matrices_of = group, kept, memory, matrices_of

    def products(self, out: Tensor, into: Tensor) -> list[Tensor | None]:
        """See :meth:`.BucketMessages.products`."""
        states = [tensor.float().contiguous() for tensor in (into, out)]
        products = [
            own.new_empty(len(own), lines, MATRICES, own.shape[2]) if lines else None
            for own, lines in zip(states, self._group.lines, strict=True)
        ]
        _send(self._group.kept, self._kept, states, products)
        for items, routes in self._group.chunks:
            places, _memory = self._matrices_of(items)
            _send(routes, places, states, products)
        return products


def _send(
    routes: MessageRoutes,
    places: Addresses,
    states: Sequence[Tensor],
    products: Sequence[Tensor | None],
) -> None:
    for route, own, found in zip(routes, states, products, strict=True):
        if found is not None and len(route.sizes):
            route.send(places, own, found)
