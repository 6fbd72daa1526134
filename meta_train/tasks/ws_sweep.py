"""Graphs to compare networks by: some with names, and some spread over the plane of measures.

Source: You et al., Graph Structure of Neural Networks (2020), arXiv:2007.06559, sections 3 and 5.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from meta_train.cache import cached
from meta_train.errors import MetaTrainError
from meta_train.spec import look_up
from meta_train.tasks.ws_flex import Graph, Measures, drawn, measure

SPARSEST = 0.125
"""Smallest share of the nodes that are neighbours of a node, on average."""

DEGREES, REWIRINGS = 200, 300
"""How many degrees and rewirings a sweep knows."""

DRAWS = 20
"""How many graphs are drawn for each that is kept."""

CLUSTERING, PATH_LENGTH = (0.0, 1.0), (1.0, 4.5)
"""The plane of measures that graphs are spread over; the published sweep fills it for 64 nodes."""

NAMED = {"complete": 0.0, "lattice": 0.0, "small_world": 0.2, "random": 1.0}
"""Rewiring of the graphs with names. All but the complete one have the lowest degree."""


@dataclass(frozen=True)
class WSGraph:
    """A WS-flex graph by how it is drawn, and by its measures.

    Args:
        nodes: how many.
        degree: average number of neighbours of a node.
        rewiring: probability that an edge leads anywhere.
        seed: it is drawn from.
        name: for reports.
    """

    nodes: int
    degree: float
    rewiring: float
    seed: int
    name: str = ""

    @cached_property
    def graph(self) -> Graph:
        """Adjacency, (nodes, nodes)."""
        return drawn(self.nodes, self.degree, self.rewiring, self.seed)

    @cached_property
    def measures(self) -> Measures:
        """Clustering and path length."""
        return measure(self.graph)

    @property
    def sparsity(self) -> float:
        """Share of the nodes that are neighbours of a node."""
        return self.degree / self.nodes


def named(name: str, nodes: int, seed: int = 0) -> WSGraph:
    """Return a graph with a name: complete, lattice, small_world (path length 2.4) or random.

    Args:
        name: of :data:`NAMED`.
        nodes: how many.
        seed: of what is rewired.

    Raises:
        MetaTrainError: if there is no such name.
    """
    rewiring = look_up(NAMED, name, "graph with a name")
    degree = nodes - 1 if name == "complete" else max(2, SPARSEST * nodes)
    return WSGraph(nodes, float(degree), rewiring, seed, name)


def sweep(nodes: int, graphs: int, seed: int = 0, folder: Path | None = None) -> list[WSGraph]:
    """Draw graphs of all degrees and rewirings, and keep some that are spread over the plane.

    The plane of clustering and path length is cut into cells, the fewest of which enough have a
    graph; of each cell the first graph is kept. The published sweep keeps 52, 449 or 3,942.

    Args:
        nodes: how many each has.
        graphs: how many to keep.
        seed: of all draws.
        folder: where the outcome is kept, to be used again; by default nowhere.

    Raises:
        MetaTrainError: if so many graphs are not to be had.
    """
    key = {"nodes": nodes, "graphs": graphs, "seed": seed}
    kept = cached(folder, f"sweep-{graphs}", key, lambda: _swept(nodes, graphs, seed))
    return [WSGraph(name=str(number), **found) for number, found in enumerate(kept)]


def _swept(nodes: int, graphs: int, seed: int) -> list[dict[str, Any]]:
    drawn_from, measures = [], []
    for choice in tqdm(_choices(nodes, seed, DRAWS * graphs), "graphs", leave=False, disable=None):
        drawn_from.append(choice)
        measures.append(measure(drawn(**choice)))
    firsts = _spread(torch.tensor(measures, dtype=torch.float64), graphs)
    return [drawn_from[number] for number in firsts]


def _choices(nodes: int, seed: int, count: int) -> list[dict[str, Any]]:
    """Settings of a grid that is finer where graphs change more, in a random order."""
    low, high = min(4, nodes - 2) ** 0.5, (nodes - 2) ** 0.5
    degrees = torch.linspace(low, high, DEGREES, dtype=torch.float64) ** 2
    degrees = degrees[degrees >= SPARSEST * nodes]
    rewirings = torch.linspace(0, 1, REWIRINGS, dtype=torch.float64) ** 2
    generator = torch.Generator().manual_seed(seed)
    pairs = len(degrees) * len(rewirings)
    rounds = -(-count // pairs)
    order = torch.cat([torch.randperm(pairs, generator=generator) for _ in range(rounds)])[:count]
    return [
        {
            "nodes": nodes,
            "degree": float(degrees[number % len(degrees)]),
            "rewiring": float(rewirings[number // len(degrees)]),
            "seed": place,
        }
        for place, number in enumerate(order.tolist())
    ]


def _spread(measures: Tensor, graphs: int) -> list[int]:
    """Numbers of graphs in different cells of the plane.

    Args:
        measures: clustering and path length, (drawn, 2).
        graphs: how many to keep.
    """
    low = torch.tensor([CLUSTERING[0], PATH_LENGTH[0]])
    wide = torch.tensor([CLUSTERING[1], PATH_LENGTH[1]]) - low
    for cells in range(1, 2 * graphs + 1):
        places = ((measures - low) / wide * cells).long()
        firsts = list({tuple(p): n for n, p in reversed(list(enumerate(places.tolist())))}.values())
        if len(firsts) >= graphs:
            firsts.sort(key=lambda n: measures[n].tolist())
            even = torch.linspace(0, len(firsts) - 1, graphs).round().long().tolist()
            return [firsts[place] for place in even]
    raise MetaTrainError(
        f"{len(measures)} graphs that were drawn are not different enough to keep {graphs} of "
        "them.\n  Ask for fewer graphs, or use more nodes."
    )
