"""The command `zoo cnn`: convolutional networks, each trained with hyper-parameters of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from meta_train.data.dataset import RawImages
from meta_train.data.images import resized
from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from meta_train.seeds import part_seed
from meta_train.zoo.architecture import Architecture
from meta_train.zoo.making import MakingOptions, make_zoo
from meta_train.zoo.networks import ACTIVATIONS, LAYERS, NO_SKIP, small_config, varied_config
from meta_train.zoo.pictures import pictures, split_of_runs
from meta_train.zoo.store import SPLITS, Zoo
from meta_train.zoo.training import OPTIMIZERS, Snapshot, draw_recipe, train
from meta_train.zoo.writer import Chunk, Part, ZooWriter

SIZES = {"small": 32, "varied": 16}
LEAST_SIZES = {"small": 15, "varied": 2}
"""Smaller images would have nothing left after three unpadded layers of stride 2."""

SMALL_ACTIVATIONS = ("relu", "tanh")
MEASURED = ("run", "split", "accuracy", "train_accuracy", "gap", "loss")
"""Columns that are no hyper-parameters."""

SPLIT, ARCHITECTURES, RUNS = 0, 1, 2
"""Parts that are drawn by themselves: the split, the architectures, and each run."""

ABSENT = -1
"""In columns of layers that a network has not."""


@dataclass(frozen=True)
class CnnOptions(MakingOptions):
    """Train convolutional networks to classify CIFAR-10, with hyper-parameters drawn for each.

    By default the small zoo: three layers of 16 channels for grey images of 32 x 32 pixels; with
    --architectures, networks of varied depth, channels, kernels, activations and skips. Learning
    rate, L2, dropout, initial weights, optimizer, steps and the share of the training images are
    drawn for each run. Three snapshots are kept: after a quarter, half and all of the steps.

    Killed at any moment, the same command goes on with what is missing, and the zoo is the same.
    Runs that diverge are left out.

    Args:
        folder: of the zoo.
        data: images: `mnist`, `fashion_mnist`, `cifar10`, or `digits`, which needs no files.
        networks: number of runs, each with three snapshots; about 5 seconds each on a core.
        architectures: how many to draw, each for an equal share of the runs, with colours and
            16 x 16 pixels; 0 for the small zoo's.
        size: of the images, in pixels; by default 32, and 16 with --architectures.
        shortest: least number of steps of a run, drawn log-uniformly.
        longest: largest number of steps.
        batch: images per step.
        test_images: number of test images, always the same, on which accuracy is measured.
    """

    folder: Path = Path("runs/zoo/cnn")
    data: str = "cifar10"
    networks: int = 16
    architectures: int = 0
    size: int | None = None
    shortest: int = 100
    longest: int = 2000
    batch: int = 64
    test_images: int = 10000

    def __post_init__(self) -> None:
        least = (self.networks, self.batch, self.test_images, self.chunk, self.processes)
        if min(least) < 1 or self.architectures < 0 or not 4 <= self.shortest <= self.longest:
            raise MetaTrainError(
                f"cannot make the zoo {self}.\n"
                "  Use numbers of at least 1, and 4 <= shortest <= longest."
            )
        least_size = LEAST_SIZES[self.family]
        if self.plain()["size"] < least_size:
            raise MetaTrainError(
                f"images of {self.size} x {self.size} pixels are too small for these networks.\n"
                f"  Use --size {least_size} or more."
            )

    @property
    def family(self) -> str:
        """Either `small` or `varied`."""
        return "varied" if self.architectures else "small"

    def plain(self) -> dict[str, Any]:
        """All that the zoo follows from, with defaults filled in."""
        return super().plain() | {"size": self.size or SIZES[self.family]}


def run_cnn(options: CnnOptions, echo: Callable[[str], None] = tqdm.write) -> Zoo:
    """Make the zoo, or what is missing of it, and show what the networks reach.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.
    """
    chunks = -(-options.networks // options.chunk)
    writer = ZooWriter(options.folder, "cnn", options.plain(), chunks)
    with world(options.device) as processes:
        make = partial(cnn_chunk, options, str(processes.device))
        sizes = (options.chunk, options.processes, options.networks)
        zoo = make_zoo(writer, make, categories(options), *sizes)
    echo("\n".join(report(zoo)))
    return zoo


def cnn_chunk(options: CnnOptions, device: str, number: int) -> Chunk:
    """Train the networks of one chunk.

    Args:
        options: of the zoo.
        device: to train them on.
        number: of the chunk.
    """
    split = split_of_runs(
        options.networks, options.validation, options.test, _generator(options, SPLIT)
    )
    drawn = architectures(options)
    raw = cached_images(options.data, options.plain()["size"], options.family == "small")
    images = raw._replace(
        training=raw.training.to(device),
        training_labels=raw.training_labels.to(device),
        test=raw.test.to(device),
        test_labels=raw.test_labels.to(device),
    )
    first, parts, dropped = number * options.chunk, [], 0
    for run in range(first, min(first + options.chunk, options.networks)):
        chosen = run % len(drawn)
        generator = _generator(options, RUNS + run)
        recipe = draw_recipe(generator, options.shortest, options.longest, options.family)
        architecture = Architecture("conv_net", drawn[chosen])
        found = train(architecture, recipe, images, options.batch, options.test_images, generator)
        if found is None:
            dropped += 1
            continue
        same = {"run": run, "split": int(split[run]), **recipe.plain()}
        same |= of_architecture(drawn[chosen], chosen, options.family)
        parts.append(_part(architecture, found, same))
    return Chunk(parts, dropped)


def architectures(options: CnnOptions) -> list[dict[str, Any]]:
    """Configs of the networks, which the runs take in turn."""
    size, raw = options.plain()["size"], pictures(options.data)
    if options.family == "small":
        return [small_config(name, 1, size) for name in SMALL_ACTIVATIONS]
    generator = _generator(options, ARCHITECTURES)
    channels = raw.training.shape[1]
    return [varied_config(generator, channels, size) for _ in range(options.architectures)]


def of_architecture(config: dict[str, Any], number: int, family: str) -> dict[str, int]:
    """Columns that tell an architecture; :data:`ABSENT` stands for a layer that is not there."""
    if family == "small":
        return {"activation": number}
    own = {"architecture": number, "layers": len(config["channels"])}
    for layer in range(max(LAYERS)):
        there = layer < len(config["channels"])
        act = ACTIVATIONS.index(config["activations"][layer]) if there else len(ACTIVATIONS)
        own[f"channels_{layer}"] = config["channels"][layer] if there else ABSENT
        own[f"kernel_{layer}"] = config["kernels"][layer] if there else ABSENT
        own[f"skip_{layer}"] = config["skips"][layer] if there else NO_SKIP
        own[f"activation_{layer}"] = act
    return own


def categories(options: CnnOptions) -> dict[str, tuple[str, ...]]:
    """Names of the values of the columns that are labels."""
    if options.family == "small":
        return {"optimizer": OPTIMIZERS, "activation": SMALL_ACTIVATIONS}
    known = (*ACTIVATIONS, "absent")
    layers = {f"activation_{layer}": known for layer in range(max(LAYERS))}
    return {"optimizer": OPTIMIZERS, **layers}


def hyper_parameters(zoo: Zoo) -> tuple[str, ...]:
    """Columns that are known of a network without a look at its weights or its results."""
    return tuple(name for name in zoo.columns if name not in MEASURED)


@cache
def cached_images(data: str, size: int, grey: bool) -> RawImages:
    """Load images of this size, `(n, channels, size, size)` uint8; grey is the mean of colours."""
    raw = pictures(data)
    training, test = (_resized(part, size, grey) for part in (raw.training, raw.test))
    return RawImages(training, raw.training_labels, test, raw.test_labels, raw.classes)


def report(zoo: Zoo) -> list[str]:
    """Lines on what the networks reach."""
    sizes = ", ".join(f"{len(zoo.split(name)):,} {name}" for name in SPLITS)
    accuracy = zoo.columns["accuracy"]
    low, middle, high = accuracy.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    gap = zoo.columns["gap"].mean()
    return [
        f"{len(zoo):,} snapshots ({sizes}) of {len(zoo.stacks)} architectures in {zoo.folder}; "
        f"{zoo.dropped} runs diverged.",
        f"Test accuracy {accuracy.mean():.3f} on average; 10 %, 50 %, 90 % are below {low:.3f}, "
        f"{middle:.3f}, {high:.3f}. Training accuracy is {gap:.3f} above it.",
    ]


def _generator(options: CnnOptions, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(part_seed(options.seed, number))


def _resized(images: Tensor, size: int, grey: bool) -> Tensor:
    parts = []
    for part in images.split(4096):  # type: ignore[no-untyped-call]
        floats = part.float().mean(1, keepdim=True) if grey else part
        parts.append(resized(floats, size).round().to(torch.uint8))
    return torch.cat(parts)


def _part(architecture: Architecture, found: list[Snapshot], same: dict[str, float]) -> Part:
    tensors = {
        name: torch.stack([snapshot.tensors[name] for snapshot in found])
        for name in found[0].tensors
    }
    measured = [snapshot.columns for snapshot in found]
    columns = {name: torch.tensor([of[name] for of in measured]) for name in measured[0]}
    columns |= {name: torch.tensor([value] * len(found)) for name, value in same.items()}
    return Part(architecture, tensors, columns)
