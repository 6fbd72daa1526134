"""The command `zoo relational`: networks wired as graphs of all kinds, at matched operations."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from meta_train.reading.relational_networks import dense_tensors, network
from meta_train.reading.relational_plan import Kind, Shape, matched_width
from meta_train.reading.relational_training import Recipe, error, train
from meta_train.seeds import part_seed
from meta_train.tasks.ws_sweep import WSGraph, sweep
from meta_train.zoo.architecture import Architecture
from meta_train.zoo.making import MakingOptions, make_zoo
from meta_train.zoo.pictures import split_of_runs
from meta_train.zoo.store import SPLITS, Zoo
from meta_train.zoo.writer import Chunk, Part, ZooWriter

SIZES = {"digits": 8, "mnist": 14, "fashion_mnist": 14, "cifar10": 16}
"""Sizes of the images of data sets, in pixels."""

SPLIT, RUNS = 0, 1
"""Parts that are drawn by themselves: the split, and each run."""


@dataclass(frozen=True)
class RelationalZooOptions(MakingOptions):
    """Train networks that are wired as graphs, spread over the plane of their measures.

    The graphs are taken in turn. Three snapshots of each network are kept: after a quarter, half
    and all of the epochs. Killed at any moment, the same command goes on with what is missing, and
    the zoo is the same.

    Args:
        folder: of the zoo.
        data: images; `digits` needs no files.
        networks: number of runs, each with three snapshots.
        graphs: number of graphs.
        model: `mlp`, `cnn` or `resnet`.
        width: of the first hidden layer of the complete graph, at least as many as nodes.
        depth: wired layers of an MLP or a CNN, or residual blocks in each of three stages.
        nodes: of the graphs.
        size: of the images, in pixels; by default 8 for digits, 14 or 16.
        epochs: how often each network sees all images, at least 4.
        batch: images per step.
        lr: learning rate at the first step.
    """

    folder: Path = Path("runs/zoo/relational")
    data: Literal["digits", "mnist", "fashion_mnist", "cifar10"] = "digits"
    networks: int = 64
    graphs: int = 16
    model: Kind = "mlp"
    width: int = 64
    depth: int = 3
    nodes: int = 16
    size: int | None = None
    epochs: int = 12
    batch: int = 64
    lr: float = 0.1
    chunk: int = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        least = (self.networks, self.graphs, self.batch, self.depth, self.chunk, self.processes)
        if min(least) < 1 or self.epochs < 4 or self.width < self.nodes:
            raise MetaTrainError(
                f"cannot make the zoo {self}.\n"
                "  Use numbers of at least 1, 4 epochs or more, and width >= nodes."
            )

    def plain(self) -> dict[str, Any]:
        """All that the zoo follows from, with defaults filled in."""
        return super().plain() | {"size": self.size or SIZES[self.data]}


def run_relational_zoo(
    options: RelationalZooOptions, echo: Callable[[str], None] = tqdm.write
) -> Zoo:
    """Make the zoo, or what is missing of it, and show what the networks reach.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.
    """
    chunks = -(-options.networks // options.chunk)
    writer = ZooWriter(options.folder, "relational", options.plain(), chunks)
    with world(options.device) as processes:
        make = partial(relational_chunk, options, str(processes.device))
        zoo = make_zoo(writer, make, {}, options.chunk, options.processes)
    sizes = ", ".join(f"{len(zoo.split(name)):,} {name}" for name in SPLITS)
    last = zoo.columns["accuracy"][zoo.columns["epoch"] == options.epochs]
    echo(
        f"{len(zoo):,} snapshots ({sizes}) of {len(zoo.stacks)} architectures in {zoo.folder}.\n"
        f"Test accuracy at the end {last.mean():.3f} on average, from {last.min():.3f} to "
        f"{last.max():.3f}."
    )
    return zoo


def relational_chunk(options: RelationalZooOptions, device: str, number: int) -> Chunk:
    """Train the networks of one chunk.

    Args:
        options: of the zoo.
        device: to train them on.
        number: of the chunk.
    """
    generator = torch.Generator().manual_seed(part_seed(options.seed, SPLIT))
    split = split_of_runs(options.networks, options.validation, options.test, generator)
    graphs = sweep(options.nodes, options.graphs, options.seed)
    data = images(options.data, options.plain()["size"]).to(torch.device(device))
    first = number * options.chunk
    runs = range(first, min(first + options.chunk, options.networks))
    parts = []
    for run in runs:
        graph = graphs[run % len(graphs)]
        same = {
            "run": run,
            "split": int(split[run]),
            "graph": run % len(graphs),
            "degree": graph.degree,
            "rewiring": graph.rewiring,
            "clustering": graph.measures.clustering,
            "path_length": graph.measures.path_length,
        }
        parts.append(_trained(options, graph, same, data))
    return Chunk(parts)


def _trained(
    options: RelationalZooOptions, graph: WSGraph, same: dict[str, float], data: Dataset
) -> Part:
    """Train a network, and keep it at some epochs, with what is the same of all."""
    _, channels, size, _ = data.splits["train"][0].shape
    shape = Shape(options.model, channels, size, data.classes, options.width, options.depth)
    width, seed = (
        matched_width(shape, graph.graph),
        part_seed(options.seed, RUNS + int(same["run"])),
    )
    built = network(shape, graph.graph, width, seed).to(data.splits["train"][0].device)
    recipe = Recipe(options.epochs, options.batch, options.lr, flip=False, shift=size // 8)
    kept = {options.epochs // 4, options.epochs // 2, options.epochs}
    tensors: list[dict[str, Tensor]] = []
    columns: list[dict[str, float]] = []

    def keep(epoch: int, trained: nn.Module) -> None:
        if epoch in kept:
            tensors.append(dense_tensors(trained))
            columns.append({**same, "width": width, "epoch": epoch, **_figures(trained, data)})

    train(built, data, recipe, seed, after=keep)
    return Part(
        Architecture(
            "relational", {"shape": shape._asdict(), "graph": asdict(graph), "width": width}
        ),
        {f"network.{name}": torch.stack([of[name] for of in tensors]) for name in tensors[0]},
        {name: torch.tensor([of[name] for of in columns]) for name in columns[0]},
    )


@torch.no_grad()
def _figures(trained: nn.Module, data: Dataset) -> dict[str, float]:
    """Accuracies, the gap between them, and the test loss."""
    right = {name: 1 - error(trained, *data.splits[name]) / 100 for name in ("train", "test")}
    pictures, labels = data.splits["test"]
    return {
        "accuracy": right["test"],
        "train_accuracy": right["train"],
        "gap": right["train"] - right["test"],
        "loss": float(cross_entropy(trained(pictures), labels)),
    }
