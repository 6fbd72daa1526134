"""WS-flex graphs, and a search for one of given clustering and path length.

A Watts-Strogatz graph whose average degree need not be an even integer: a ring, each node of which
is joined to its nearest neighbours, and of whose edges some are rewired at random. Source: You et
al., Graph Structure of Neural Networks (2020), arXiv:2007.06559, section 3.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from meta_train.errors import MetaTrainError

Graph = NDArray[np.bool_]
"""Adjacency of an undirected graph, (nodes, nodes), without self-loops."""

_TRIES = 400


class Measures(NamedTuple):
    """What graphs of neurons are compared by.

    Args:
        clustering: how many pairs of a node's neighbours are neighbours; mean over nodes, 0 to 1.
        path_length: number of edges from node to node; mean over pairs, infinite if some pair is
            not connected.
    """

    clustering: float
    path_length: float


def ws_flex(nodes: int, degree: float, rewiring: float, generator: torch.Generator) -> Graph:
    """Draw a graph.

    Args:
        nodes: number of nodes, at least 3.
        degree: average number of neighbours, 2 to `nodes - 1`; the graph has
            `round(nodes * degree / 2)` edges.
        rewiring: probability that an edge leads to a random node instead, 0 to 1.
        generator: draws what is rewired, and where to.

    Raises:
        MetaTrainError: if an argument is out of range.
    """
    if nodes < 3 or not 2 <= degree <= nodes - 1 or not 0 <= rewiring <= 1:
        raise MetaTrainError(
            f"there is no WS-flex graph of {nodes} nodes, degree {degree} and rewiring {rewiring}."
            "\n  Use at least 3 nodes, a degree from 2 to nodes - 1 and a rewiring from 0 to 1."
        )
    random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    edges = round(nodes * degree / 2)
    counts = [edges // nodes + (node < edges % nodes) for node in range(nodes)]
    ring = [(u, (u + step + 1) % nodes) for u, count in enumerate(counts) for step in range(count)]
    graph = np.zeros((nodes, nodes), dtype=bool)
    for u, v in ring:
        graph[u, v] = graph[v, u] = True
    for u, v in ring:
        if random.random() >= rewiring:
            continue
        free = np.flatnonzero(~graph[u])
        free = free[free != u]
        if len(free):
            w = random.choice(free)
            graph[u, v] = graph[v, u] = False
            graph[u, w] = graph[w, u] = True
    return graph


def measure(graph: Graph) -> Measures:
    """Clustering coefficient and average path length of a graph, exactly."""
    ones = graph.astype(np.float64)
    degree = ones.sum(0)
    pairs = degree * (degree - 1)
    triangles = np.einsum("ij,ji->i", ones @ ones, ones)  # each is counted twice, as are the pairs
    clustering = np.divide(triangles, pairs, out=np.zeros_like(pairs), where=pairs > 0)
    return Measures(float(clustering.mean()), _path_length(ones))


def _path_length(ones: NDArray[np.float64]) -> float:
    nodes = len(ones)
    reached = np.eye(nodes, dtype=bool)
    total = 0
    for distance in range(1, nodes):
        further = (reached @ ones > 0) | reached
        new = int(further.sum() - reached.sum())
        if not new:
            break
        total += distance * new
        reached = further
    return total / (nodes * (nodes - 1)) if reached.all() else math.inf


def drawn(nodes: int, degree: float, rewiring: float, seed: int) -> Graph:
    """Draw a connected graph; the same for the same arguments.

    Raises:
        MetaTrainError: if an argument is out of range, or no graph that was drawn is connected.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(_TRIES):
        graph = ws_flex(nodes, degree, rewiring, generator)
        if math.isfinite(measure(graph).path_length):
            return graph
    raise MetaTrainError(
        f"no graph of {nodes} nodes, degree {degree} and rewiring {rewiring} is connected among "
        f"{_TRIES} that were drawn.\n  Use a higher degree or less rewiring."
    )


@cache
def connected(nodes: int, degree: float, rewiring: float, seed: int) -> Graph:
    """Return what :func:`drawn` draws; kept, so do not change it."""
    return drawn(nodes, degree, rewiring, seed)


@cache
def with_measures(
    nodes: int, clustering: float, path_length: float, seed: int, tolerance: float = 0.05
) -> Graph:
    """Find a connected graph of given measures; the same for the same arguments.

    It draws graphs of various degrees and rewirings, ever nearer to those of the best one so far.

    Args:
        nodes: number of nodes.
        clustering: what its clustering coefficient should be.
        path_length: what its average path length should be, in edges.
        seed: of the search; other seeds find other graphs.
        tolerance: how far each measure may be off.

    Raises:
        MetaTrainError: if no such graph was found; it tells the nearest one.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = Measures(clustering, path_length)
    best, nearest, place = math.inf, None, torch.rand(2, generator=generator)
    for step in range(_TRIES):
        spread = max(0.5 ** (step / 50), 0.02)
        tried = torch.rand(2, generator=generator) if step < _TRIES // 8 else place.clone()
        tried = (tried + spread * torch.randn(2, generator=generator)).clamp(0, 1)
        degree, rewiring = _settings(nodes, tried)
        graph = ws_flex(nodes, degree, rewiring, generator)
        found = measure(graph)
        miss = max(abs(a - b) for a, b in zip(found, wanted, strict=True))
        if miss <= tolerance:
            return graph
        if miss < best:
            best, nearest, place = miss, found, tried
    raise MetaTrainError(
        f"no graph of {nodes} nodes was found with clustering {clustering} and path length "
        f"{path_length}, each within {tolerance}; the nearest one has {nearest}.\n"
        "  Use measures that such a graph can have, more nodes, or a degree and a rewiring instead."
    )


def _settings(nodes: int, place: torch.Tensor) -> tuple[float, float]:
    """Degree and rewiring at a place in the unit square; measures change evenly over it."""
    across, along = place.tolist()
    return 2 * ((nodes - 1) / 2) ** across, along**3
