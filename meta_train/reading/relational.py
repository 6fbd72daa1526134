"""The command `relational`: how well networks learn that are wired as graphs of all kinds."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from meta_train.cache import cached
from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from meta_train.reading.relational_networks import Compute, network
from meta_train.reading.relational_plan import (
    DEPTHS,
    WIDTHS,
    Kind,
    Shape,
    matched_width,
    operations,
)
from meta_train.reading.relational_report import report
from meta_train.reading.relational_scores import Point
from meta_train.reading.relational_training import Outcome, Recipe, train
from meta_train.shared_files import claim
from meta_train.spec import look_up
from meta_train.tasks.ws_sweep import NAMED, WSGraph, named, sweep

SIZES = {"digits": 8, "mnist": 28, "fashion_mnist": 28, "cifar10": 32}
"""Sizes of the images of data sets, in pixels."""

CPU_WIDTH = 256
"""Width of the complete MLP if none is given: half of the published one, for a CPU."""

Data = Literal["cifar10", "digits", "mnist", "fashion_mnist"]


@dataclass(frozen=True)
class RelationalOptions:
    """Train networks wired as graphs, all of as many operations, and draw the map of their errors.

    Each network has a file; what has one is not trained again. Killed at any moment, the same
    command goes on after the last epoch that was finished. Typed several times at once, it shares
    the networks among the processes. The published setting is `--width 512 --graphs 52 --seeds 5
    --epochs 200`.

    Args:
        graphs: number of graphs that are spread over the plane of clustering and path length.
        named: graphs beside them: complete, lattice, small_world, random.
        seeds: number of networks of each graph.
        epochs: how often each network sees all images.
        model: `mlp`, `cnn` or `resnet`.
        width: of the first hidden layer of the complete graph; by default 256 for an MLP
            (published: 512), and 64 channels.
        depth: wired layers of an MLP or a CNN, or residual blocks in each of three stages;
            by default 3.
        nodes: of the graphs.
        data: what is learned; CIFAR-10 is published.
        images: number of training images; 0 for all.
        size: of the images, in pixels; by default their own.
        batch: images per step.
        lr: learning rate at the first step.
        weight_decay: of all weights.
        augment: whether images are moved, and those of CIFAR-10 mirrored, at random.
        compute: wired layers by gathered `blocks` or as `masked` dense ones; by default whichever
            is faster on a CPU.
        first_seed: the other seeds follow.
        sweep_seed: of the graphs.
        out: folder for results, `relational.md`, `relational.json`, `map.png` and TensorBoard's.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
    """

    graphs: int = 8
    named: tuple[str, ...] = ("complete", "lattice", "small_world")
    seeds: int = 2
    epochs: int = 2
    model: Kind = "mlp"
    width: int | None = None
    depth: int | None = None
    nodes: int = 64
    data: Data = "cifar10"
    images: int = 0
    size: int | None = None
    batch: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    augment: bool = True
    compute: Compute = "auto"
    first_seed: int = 1
    sweep_seed: int = 0
    out: Path = Path("relational")
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in self.named:
            look_up(NAMED, name, "graph with a name")
        if self.graphs < 0 or self.seeds < 1 or not (self.graphs or self.named) or self.images < 0:
            raise MetaTrainError(
                f"there is nothing to train with graphs={self.graphs}, named={self.named}, "
                f"seeds={self.seeds}, images={self.images}.\n"
                "  Give at least one graph and one seed, and images >= 0."
            )

    @property
    def recipe(self) -> Recipe:
        """How networks are trained."""
        pixels = self.size or SIZES[self.data]
        return Recipe(
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            flip=self.augment and self.data == "cifar10",
            shift=pixels // 8 if self.augment else 0,
        )


@dataclass(frozen=True)
class Trained:
    """A network to train, or trained.

    Args:
        graph: that it is wired as.
        shape: of the network.
        seed: of its weights and batches.
    """

    graph: WSGraph
    shape: Shape
    seed: int

    @cached_property
    def width(self) -> int:
        """Width of the wired layers."""
        return matched_width(self.shape, self.graph.graph)

    @property
    def operations(self) -> int:
        """Multiplications for one image."""
        return operations(self.shape, self.width, self.graph.graph)

    @property
    def label(self) -> str:
        """What its file is called."""
        return f"{self.shape.kind}-{self.graph.name}-{self.seed}"


def run_relational(
    options: RelationalOptions, echo: Callable[[str], None] = tqdm.write
) -> list[Point]:
    """Train what is not trained yet, show the table, and write the files.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.

    Returns:
        The graphs, with the errors of their networks.
    """
    with world(options.device) as processes:
        data = dataset(options).to(processes.device)
        todo = trainings(options, data)
        outcomes: dict[Trained, Outcome] = {}
        # First what nobody is at work on, then what others have done meanwhile, or left undone.
        for wait in (False, True):
            open_ones = [each for each in todo if each not in outcomes]
            for each in tqdm(open_ones, "networks", disable=None):
                outcome = _claimed(each, options, data, wait=wait)
                if outcome is None:
                    continue
                outcomes[each] = outcome
                echo(
                    f"{each.graph.name}, seed {each.seed}: test error {outcome.test_error:.2f} %, "
                    f"{outcome.seconds:.0f} s"
                )
    points = _points(todo, outcomes)
    echo(report(points, asdict(options), options.out))
    return points


def dataset(options: RelationalOptions) -> Dataset:
    """Images, as many of them as are to be learned from."""
    data = images(options.data, options.size or SIZES[options.data])
    if not options.images:
        return data
    fewer = tuple(tensor[: options.images] for tensor in data.splits["train"])
    return replace(data, splits={**data.splits, "train": fewer})


def trainings(options: RelationalOptions, data: Dataset) -> list[Trained]:
    """List all networks, seed by seed, so that early reports compare all graphs."""
    graphs = [named(name, options.nodes) for name in options.named]
    if options.graphs:
        folder = options.out / "graphs"
        graphs += sweep(options.nodes, options.graphs, options.sweep_seed, folder)
    shape = network_shape(options, data)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    return [Trained(graph, shape, seed) for seed in seeds for graph in graphs]


def network_shape(options: RelationalOptions, data: Dataset) -> Shape:
    """What the networks have to do, and how large the complete one is."""
    _, channels, size, _ = data.splits["train"][0].shape
    default = CPU_WIDTH if options.model == "mlp" else WIDTHS[options.model]
    return Shape(
        options.model,
        channels,
        size,
        data.classes,
        options.width or default,
        options.depth or DEPTHS[options.model],
    )


def _claimed(
    each: Trained, options: RelationalOptions, data: Dataset, *, wait: bool
) -> Outcome | None:
    """Outcome of a network; None if another process is at work on it."""
    folder, recipe = options.out / "networks", options.recipe
    graph = {key: value for key, value in asdict(each.graph).items() if key != "name"}
    key = {
        "graph": graph,
        "shape": each.shape._asdict(),
        "seed": each.seed,
        "recipe": asdict(recipe),
        "data": [data.name, len(data.splits["train"][0])],
    }
    begun = folder / f"{each.label}.begun"

    def compute() -> dict[str, Any]:
        built = network(each.shape, each.graph.graph, each.width, each.seed, options.compute)
        built.to(data.splits["train"][0].device)
        name = f"{each.graph.name}, seed {each.seed}"
        with tqdm(total=recipe.epochs, desc=name, leave=False, disable=None) as bar:
            return asdict(train(built, data, recipe, each.seed, begun, lambda *_: bar.update()))

    with claim(folder / each.label, wait=wait) as free:
        if not free:
            return None
        found = cached(folder, each.label, key, compute)
        _removed(begun)
    return Outcome(**{**found, "losses": tuple(found["losses"])})


def _removed(folder: Path) -> None:
    """Remove the checkpoints of a network that is trained."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _points(todo: Sequence[Trained], outcomes: dict[Trained, Outcome]) -> list[Point]:
    """Gather the errors of the networks of each graph."""
    by_graph: dict[WSGraph, list[Trained]] = {}
    for each in todo:
        by_graph.setdefault(each.graph, []).append(each)
    return [
        Point(
            name=graph.name,
            degree=graph.degree,
            rewiring=graph.rewiring,
            clustering=graph.measures.clustering,
            path_length=graph.measures.path_length,
            width=members[0].width,
            operations=members[0].operations,
            test_errors=tuple(outcomes[each].test_error for each in members),
            held_out_errors=tuple(outcomes[each].held_out_error for each in members),
            seconds=sum(outcomes[each].seconds for each in members) / len(members),
        )
        for graph, members in by_graph.items()
    ]
