"""The command `zoo inr`: sine networks, each of which is an image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from meta_train.data.dataset import RawImages
from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from meta_train.seeds import part_seed
from meta_train.table import table_lines
from meta_train.zoo.architecture import Architecture
from meta_train.zoo.making import MakingOptions, make_zoo
from meta_train.zoo.pictures import BRIGHTEST, pictures, split_of_runs
from meta_train.zoo.siren import SCALES, draw, evaluate, fit, points
from meta_train.zoo.store import SPLITS, Zoo
from meta_train.zoo.writer import Chunk, Part, ZooWriter
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.permute import permute

FREQUENCY = 30.0

STEPS = {"common": 60, "nfn": 100, "dws": 300}
LR = {"nfn": 3e-3, "dws": 5e-3}

ASSIGNMENT, COMMON, CHUNKS = 0, 1, 2
"""Parts that are drawn by themselves: images of networks, the common start, and the chunks."""

PUBLISHED = {
    ("nfn", "mnist"): (0.2868, 0.409, 0.0171, 0.104, 0.0639, 0.097),
    ("nfn", "cifar10"): (0.2803, 0.4087, 0.0177, 0.1039, 0.0546, 0.0873),
    ("dws", "mnist"): (0.0628, 0.0213, 0.0183, 0.0110, 0.1179, 0.0999),
    ("dws", "fashion_mnist"): (0.0782, 0.0286, 0.0324, 0.0167, 0.1345, 0.0960),
}
"""Standard deviations of the parameters, in the order of the network, in the published zoos."""


@dataclass(frozen=True)
class InrOptions(MakingOptions):
    """Fit sine networks to images: 2-32-32-1 of MNIST by default, 40 to 80 a second and core.

    Killed at any moment, the same command goes on with what is missing, and the zoo is the same.
    The networks of the test split are of images of the data set's own test part.

    Args:
        folder: of the zoo.
        data: images: `mnist`, `fashion_mnist`, `cifar10`, or `digits`, which needs no files.
        networks: how many. If there are more than images, images are fitted several times.
        start: `independent`: each network from weights of its own. `common`: all from the same
            weights; the hidden neurons of each are permuted at random afterwards.
        init: weights to start from, and scale of the images: as published with `nfn` (images from
            -1 to 1) or with `dws` (from -0.5 to 0.5, smaller weights, slower to fit).
        steps: of Adam; by default 100, with a common start 60, with `dws` 300.
        lr: of the first step, then a cosine to 0; by default 3e-3, with `dws` 5e-3.
        pixels: per step, drawn at random; 0 for all pixels.
        width: of the two hidden layers.
        depth: number of hidden layers.
        chunk: networks fitted at once; 16 to 64 are best on a CPU, thousands on a GPU.
    """

    folder: Path = Path("runs/zoo/inr")
    data: str = "mnist"
    networks: int = 2000
    start: Literal["independent", "common"] = "independent"
    init: Literal["nfn", "dws"] = "nfn"
    steps: int | None = None
    lr: float | None = None
    pixels: int = 196
    width: int = 32
    depth: int = 2
    test: float = field(default=0.15, kw_only=True)
    chunk: int = field(default=64, kw_only=True)

    def __post_init__(self) -> None:
        least = (self.networks, self.width, self.depth, self.chunk, self.processes)
        if (
            min(least) < 1
            or self.pixels < 0
            or any(given is not None and given <= 0 for given in (self.steps, self.lr))
        ):
            raise MetaTrainError(
                f"cannot make the zoo {self}.\n  Use numbers of at least 1, pixels >= 0 and lr > 0."
            )

    @property
    def config(self) -> dict[str, Any]:
        """Of the model, for :class:`~meta_train.zoo.siren.ImageNetwork`."""
        gain, offset = SCALES[self.init]
        channels = pictures(self.data).training.shape[1]
        sizes = {"channels": channels, "width": self.width, "depth": self.depth}
        return {**sizes, "frequency": FREQUENCY, "gain": gain, "offset": offset}

    def plain(self) -> dict[str, Any]:
        """All that the zoo follows from, with defaults filled in."""
        steps = STEPS["common" if self.start == "common" and self.init == "nfn" else self.init]
        return super().plain() | {"steps": self.steps or steps, "lr": self.lr or LR[self.init]}


def run_inr(options: InrOptions, echo: Callable[[str], None] = tqdm.write) -> Zoo:
    """Make the zoo, or what is missing of it, and show how good it is.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.
    """
    chunks = -(-options.networks // options.chunk)
    writer = ZooWriter(options.folder, "inr", options.plain(), chunks)
    with world(options.device) as processes:
        make = partial(inr_chunk, options, str(processes.device))
        zoo = make_zoo(writer, make, {}, options.chunk, options.processes, options.networks)
    echo("\n".join(report(zoo)))
    return zoo


def inr_chunk(options: InrOptions, device: str, number: int) -> Chunk:
    """Fit the networks of one chunk.

    Args:
        options: of the zoo.
        device: to fit them on.
        number: of the chunk.
    """
    plain, config = options.plain(), options.config
    raw, architecture = pictures(options.data), Architecture("siren", config)
    first = number * options.chunk
    runs = torch.arange(first, min(first + options.chunk, options.networks))
    columns = {"run": runs} | {n: t[runs] for n, t in assignment(options, raw).items()}
    images, classes = _chosen(raw, columns["split"], columns["image"])
    generator = torch.Generator().manual_seed(part_seed(options.seed, CHUNKS + number))
    common = torch.Generator().manual_seed(part_seed(options.seed, COMMON))
    if options.start == "common":
        drawn = draw(config, options.init, 1, common)
        drawn = {
            name: tensor.expand(len(runs), *tensor.shape[1:]) for name, tensor in drawn.items()
        }
    else:
        drawn = draw(config, options.init, len(runs), generator)
    targets = ((images / BRIGHTEST - config["offset"]) / config["gain"]).flatten(2).to(device)
    begun = {name: tensor.to(device) for name, tensor in drawn.items()}
    how = (FREQUENCY, plain["steps"], plain["lr"], options.pixels, generator)
    fitted = fit(begun, targets, *how)
    values = evaluate(fitted, points(images.shape[-1], targets.device), FREQUENCY)
    loss = (values - targets).square().mean((1, 2)).cpu()
    found = {name: tensor.cpu() for name, tensor in fitted.items()}
    if options.start == "common":
        found = permuted(architecture.trace(), found, generator)
    columns |= {"class": classes, "loss": loss, "psnr": psnr(loss, config["gain"])}
    whole = torch.stack([t.flatten(1).isfinite().all(1) for t in found.values()]).all(0)
    kept = whole.nonzero().flatten()
    part = Part(
        architecture,
        {name: tensor[kept] for name, tensor in found.items()},
        {name: tensor[kept] for name, tensor in columns.items()},
        {"images": images[kept]},
    )
    return Chunk([part], len(runs) - len(kept))


def assignment(options: InrOptions, raw: RawImages) -> dict[str, Tensor]:
    """Split of each network, and number of its image in the training or test part.

    Networks to train and to validate on are of different images of the training part.
    """
    generator = torch.Generator().manual_seed(part_seed(options.seed, ASSIGNMENT))
    split = split_of_runs(options.networks, options.validation, options.test, generator)
    training = torch.randperm(len(raw.training), generator=generator)
    share = options.validation / (1 - options.test)
    held = min(max(1, round(len(training) * share)), len(training) - 1)
    test = torch.randperm(len(raw.test), generator=generator)
    image = torch.empty_like(split)
    for code, pool in enumerate((training[held:], training[:held], test)):
        own = (split == code).nonzero().flatten()
        image[own] = pool[torch.arange(len(own)) % len(pool)]
    return {"split": split, "image": image}


def permuted(
    graph: NeuralGraph, parameters: Mapping[str, Tensor], generator: torch.Generator
) -> dict[str, Tensor]:
    """Permute the hidden neurons of stacked networks, each in its own way.

    Args:
        graph: of one network.
        parameters: `(networks, *shape)` each.
        generator: draws the permutations.
    """
    count = len(next(iter(parameters.values())))
    orders = {
        space.name: torch.rand(count, space.size, generator=generator).argsort(-1)
        for space in graph.hidden
    }
    together: Callable[..., dict[str, Tensor]] = torch.vmap(partial(permute, graph))
    return together(dict(parameters), orders)


def psnr(loss: Tensor, gain: float) -> Tensor:
    """Peak signal-to-noise ratio in dB, for images from 0 to 1.

    Args:
        loss: mean squared errors of a network's values.
        gain: what the values are multiplied by to give the image.
    """
    return -10 * torch.log10(gain**2 * loss)


def report(zoo: Zoo) -> list[str]:
    """Lines on the quality of the fits, and spreads beside those of the published zoo."""
    ratios, options = zoo.columns["psnr"], zoo.options
    sizes = ", ".join(f"{len(zoo.split(name)):,} {name}" for name in SPLITS)
    lines = [
        f"{len(zoo):,} networks ({sizes}) in {zoo.folder}; {zoo.dropped} diverged.",
        f"PSNR {ratios.mean():.1f} dB on average, 10 % are below {ratios.quantile(0.1):.1f} dB.",
    ]
    published = PUBLISHED.get((options["init"], options["data"]))
    own = {n: float(t.std()) for stack in zoo.stacks for n, t in stack.parameters.items()}
    known = published if published and len(published) == len(own) else (None,) * len(own)
    rows = [
        [name, f"{std:.4f}", "" if other is None else f"{other:.4f}"]
        for (name, std), other in zip(own.items(), known, strict=True)
    ]
    return [*lines, *table_lines(["standard deviation", "here", "published"], rows)]


def _chosen(raw: RawImages, split: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Images and classes of networks, of the part of the data set that their split is of."""
    tested = split == SPLITS.index("test")
    images = torch.empty(len(split), *raw.training.shape[1:], dtype=raw.training.dtype)
    classes = torch.empty(len(split), dtype=torch.int64)
    images[tested], classes[tested] = raw.test[image[tested]], raw.test_labels[image[tested]]
    images[~tested] = raw.training[image[~tested]]
    classes[~tested] = raw.training_labels[image[~tested]]
    return images, classes
