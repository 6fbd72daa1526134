"""Which wiring learns best? Networks of one cost, wired as graphs from a ring to a random one.

    python examples/07_relational_graphs.py --out pictures

Each node of a graph owns a block of the neurons of every hidden layer, and hears from its own block
and those of its neighbours. A sparse graph gets wider layers, so that all networks take as many
multiplications. The picture shows the graphs on circles, and the errors of their networks.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meta_train.data.images import images
from meta_train.reading.relational_networks import network
from meta_train.reading.relational_plan import Shape, matched_width
from meta_train.reading.relational_training import Recipe, train
from meta_train.tasks.ws_sweep import WSGraph, named

NODES, SEEDS, HARD = 32, 4, 200
"""Nodes of a graph; networks of each; number of training images, few so that the task is hard."""


def graphs() -> list[WSGraph]:
    """The complete graph, a ring, and the ring with more and more of its edges rewired."""
    ring = named("lattice", NODES)
    rewired = [
        WSGraph(NODES, ring.degree, share, 0, f"{share:.0%} rewired") for share in (0.1, 0.3)
    ]
    return [named("complete", NODES), ring, *rewired, named("random", NODES)]


def draw_graph(axes: Axes, graph: WSGraph) -> None:
    """Draw nodes on a circle and the edges between them."""
    turns = [2 * math.pi * node / NODES for node in range(NODES)]
    x, y = [math.sin(turn) for turn in turns], [math.cos(turn) for turn in turns]
    for u, v in zip(*graph.graph.nonzero(), strict=True):
        axes.plot([x[u], x[v]], [y[u], y[v]], color="C0", linewidth=0.3)
    axes.scatter(x, y, s=6, color="black", zorder=2)
    clustering, length = graph.measures
    axes.set_title(f"{graph.name}\nclustering {clustering:.2f}\npath length {length:.2f}", size=9)
    axes.set_aspect("equal")
    axes.set_axis_off()


def main() -> None:
    """Train the networks, and draw graphs and errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="number of epochs")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the picture")
    options = parser.parse_args()

    data = images("digits", 8)
    fewer = tuple(tensor[:HARD] for tensor in data.splits["train"])
    data = replace(data, splits={**data.splits, "train": fewer})
    shape = Shape("mlp", channels=1, size=8, classes=10, width=64, depth=3)
    recipe = Recipe(options.steps, batch=50, flip=False, shift=1)
    found = graphs()
    figure = Figure((2.2 * len(found), 6), layout="constrained")
    circles, (below, *rest) = figure.subplots(2, len(found))
    for axes in (below, *rest):
        axes.remove()
    errors = figure.add_subplot(2, 1, 2)
    for place, graph in enumerate(found):
        width = matched_width(shape, graph.graph)
        outcomes = []
        for seed in range(SEEDS):
            one = network(shape, graph.graph, width, seed)
            outcomes.append(train(one, data, recipe, seed).test_error)
        mean = torch.tensor(outcomes).mean().item()
        print(f"{graph.name}: width {width}, test error {mean:.1f} % over {SEEDS} seeds")
        draw_graph(circles[place], graph)
        errors.scatter([place] * SEEDS, outcomes, color="C0", alpha=0.5)
        errors.plot([place - 0.2, place + 0.2], [mean, mean], color="black")
    errors.set_xticks(range(len(found)), [graph.name for graph in found])
    errors.set_ylabel("test error, %")
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "relational_graphs.png")
    print(f"drawn in {options.out / 'relational_graphs.png'}")


if __name__ == "__main__":
    main()
