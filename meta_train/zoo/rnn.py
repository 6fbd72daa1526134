"""A zoo of LSTMs: on formal languages, or on turned digits read tile by tile."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from meta_train.errors import MetaTrainError
from meta_train.seeds import mixed
from meta_train.zoo.architecture import Architecture, model
from meta_train.zoo.languages import Corpus, languages
from meta_train.zoo.making import make_zoo
from meta_train.zoo.rnn_problems import Problem, Speaking, Turned, digits, sizes
from meta_train.zoo.store import Zoo
from meta_train.zoo.writer import Chunk, Part, ZooWriter
from ngopt.encoders.recurrent import LSTMs

SHARES = (0.7, 0.15)
"""Shares of the tasks that are for training and for validation; the others are for tests."""

DECAYS = (0.0, 0.001, 0.01, 0.1)
"""Weight decays that networks on digits have."""

LANGUAGE_DECAY = 1e-4
BETAS, EPS = (0.9, 0.999), 1e-8
LATER = 0.3
"""What the learning rate is multiplied by after half of the steps."""


@model("lstm")
class LSTMReader(nn.Module):
    """LSTM layers and a linear read-out of each hidden state of the top one.

    Args:
        inputs: number of numbers read in each step.
        hidden: number of neurons of each layer.
        layers: number of layers.
        outputs: number of numbers answered in each step.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True)
        self.read_out = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Read sequences `(batch, length, inputs)`; answer `(batch, length, outputs)`."""
        answers: Tensor = self.read_out(self.lstm(x)[0])
        return answers

    def inputs(self) -> tuple[Tensor, ...]:
        """Example inputs of a forward pass."""
        return (torch.zeros(2, 3, self.lstm.input_size),)


@dataclass(frozen=True)
class RNNZoo:
    """Train LSTMs, and keep what they were after some of the steps.

    Languages are those of Herrmann et al., "Learning useful representations of recurrent neural
    network weight matrices", ICML 2024: a^n b^(n+m1) c^(n+m2) d^(n+m3). `--scale full` is their
    size, except that the longest word keeps its end.

    Columns: `accuracy` (of digits, after the last tile; of languages, the share of written sequences
    that are words), `loss`, `step`, `task`, `weight_decay`, and `m1`, `m2`, `m3` of the language
    (counted from the least one), or `angle` in degrees, `train_loss` and `gap` (test loss minus
    training loss). All networks of a task are in one split.

    Args:
        folder: of the zoo.
        task: what they learn: a formal language, or MNIST turned by an angle, each of its own.
        scale: `full` replaces the other options with the published ones.
        networks: number of networks.
        steps: number of training steps.
        snapshots: steps after which a network is kept; 0 is before the first.
        hidden: number of neurons of a layer.
        layers: number of layers.
        batch: words or images in a step.
        lr: learning rate of AdamW; 0.3 times that in the second half.
        longest: the largest n.
        surplus: the least and the largest m.
        images: number of training images of each network.
        tile: pixels along a side of a tile of digits.
        samples: number of sequences or images that a network is judged on.
        stack: number of networks that are trained at once.
        seed: of everything random.
        device: that networks are trained on, `cpu` or `cuda`.
        processes: how many work at the same time.
    """

    folder: Path = Path("runs/zoo/rnn")
    task: Literal["languages", "digits"] = "languages"
    scale: Literal["small", "full"] = "small"
    networks: int = 512
    steps: int = 800
    snapshots: tuple[int, ...] = (0, 30, 100, 200, 400, 800)
    hidden: int = 16
    layers: int = 2
    batch: int = 32
    lr: float = 0.01
    longest: int = 4
    surplus: tuple[int, int] = (-2, 1)
    images: int = 2000
    tile: int = 4
    samples: int = 200
    stack: int = 64
    seed: int = 0
    device: str = "cpu"
    processes: int = 1

    def __post_init__(self) -> None:
        least, largest = self.surplus
        counts = (self.networks, self.hidden, self.layers, self.batch, self.samples, self.stack)
        kept = list(self.snapshots)
        if min(counts) < 1 or kept != sorted(set(kept)) or not kept or kept[0] < 0:
            raise MetaTrainError(
                f"cannot make a zoo of networks={self.networks}, hidden={self.hidden}, "
                f"layers={self.layers}, batch={self.batch}, samples={self.samples}, "
                f"stack={self.stack}, snapshots={self.snapshots}.\n"
                "  Use at least 1 of each, and snapshots in rising order."
            )
        if kept[-1] > self.steps or largest < least or 28 % self.tile:
            raise MetaTrainError(
                f"cannot make a zoo with snapshots={self.snapshots} of steps={self.steps}, "
                f"surplus={self.surplus}, tile={self.tile}.\n  Use snapshots up to the last step, "
                "the smaller surplus first, and a tile that 28 pixels can be cut into."
            )

    @property
    def chosen(self) -> "RNNZoo":
        """These options, or the published ones if the full scale is asked for."""
        if self.scale == "small":
            return self
        return replace(
            self,
            scale="small",
            networks=1000,
            steps=20_000,
            snapshots=(1, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000),
            hidden=32,
            longest=9,
            surplus=(-3, 2),
            images=60_000,
            samples=1000,
            stack=250,
        )

    @property
    def plain(self) -> dict[str, object]:
        """All that the networks follow from, as plain data."""
        elsewhere = ("folder", "scale", "device", "processes")
        return {name: value for name, value in asdict(self).items() if name not in elsewhere}

    @property
    def architecture(self) -> Architecture:
        """What builds a network."""
        inputs, outputs = sizes(self.task, self.tile)
        config = {"inputs": inputs, "hidden": self.hidden, "layers": self.layers}
        return Architecture("lstm", {**config, "outputs": outputs})


def make_rnn_zoo(options: RNNZoo) -> Zoo:
    """Make a zoo of LSTMs, or go on with it.

    Raises:
        MetaTrainError: if the folder holds another zoo, or the images are missing.
    """
    options = options.chosen
    if options.task == "digits":
        digits()  # a missing file should be found before anything is begun
    chunks = -(-options.networks // options.stack)
    writer = ZooWriter(options.folder, "rnn", options.plain, chunks)
    categories: dict[str, Sequence[str]] = {}
    if options.task == "languages":
        least, largest = options.surplus
        names = tuple(str(m) for m in range(least, largest + 1))
        categories = dict.fromkeys(("m1", "m2", "m3"), names)
    each = min(options.stack, options.networks)
    return make_zoo(writer, partial(train_stack, options), categories, each, options.processes)


def train_stack(options: RNNZoo, number: int) -> Chunk:
    """Train the networks of one stack at once.

    Args:
        options: of the zoo.
        number: of the stack, from 0.
    """
    runs = torch.arange(number * options.stack, options.networks)[: options.stack]
    generator = torch.Generator().manual_seed(mixed(options.seed, number))
    device = torch.device(options.device)
    labels = labels_of(options, runs)
    problem = _problem(options, labels, generator)
    parameters = _begin(options, len(runs), generator, device)
    optimizer = torch.optim.AdamW(
        parameters.values(), options.lr, BETAS, EPS, weight_decay=0, foreach=True
    )
    kept: list[tuple[int, dict[str, Tensor], dict[str, Tensor]]] = []
    for step in range(options.steps + 1):
        networks = LSTMs.from_parameters(parameters, "lstm", "read_out")
        if step in options.snapshots:
            tensors = {name: p.detach().cpu().clone() for name, p in parameters.items()}
            kept.append((step, tensors, problem.measure(networks)))
        if step < max(options.snapshots):
            _advance(optimizer, networks, problem, options.lr * _rate(step, options.steps))
    return _chunk(options, labels, kept)


def labels_of(options: RNNZoo, runs: Tensor) -> dict[str, Tensor]:
    """What is known of networks before their training, `(runs,)` each.

    Args:
        options: of the zoo.
        runs: numbers of the networks, `(runs,)`.
    """
    # All of the zoo are drawn, so that none depends on how many are trained at once.
    generator = torch.Generator().manual_seed(options.seed)
    if options.task == "languages":
        spoken = languages(*options.surplus)
        split = _splits(len(spoken), generator)
        # Languages take turns, so that all have as many networks, but for one.
        task = torch.randperm(len(spoken), generator=generator)[runs % len(spoken)]
        m = torch.tensor([language.surplus for language in spoken])[task] - options.surplus[0]
        decay = torch.full((len(runs),), LANGUAGE_DECAY)
        known = {"m1": m[:, 0], "m2": m[:, 1], "m3": m[:, 2]}
    else:
        split, task = _splits(options.networks, generator), runs
        angles = 360 * torch.rand(options.networks, generator=generator)
        drawn = torch.randint(len(DECAYS), (options.networks,), generator=generator)[runs]
        decay = torch.tensor(DECAYS)[drawn]
        known = {"angle": angles[runs]}
    return {"run": runs, "task": task, "split": split[task], "weight_decay": decay, **known}


def _splits(tasks: int, generator: torch.Generator) -> Tensor:
    """Number of the split of each task, `(tasks,)`; each has one at least if there are three."""
    place = torch.randperm(tasks, generator=generator)
    test = max(1, round(tasks * (1 - sum(SHARES))))
    validation = max(1, round(tasks * SHARES[1]))
    return (place < test + validation).long() + (place < test).long()


def _problem(options: RNNZoo, labels: dict[str, Tensor], generator: torch.Generator) -> Problem:
    decay = labels["weight_decay"]
    if options.task == "languages":
        spoken = languages(*options.surplus)
        corpus = Corpus.of(spoken, options.longest)
        return Speaking(
            spoken, corpus, labels["task"], decay, options.batch, options.samples, generator
        )
    total = len(digits().training)
    own = [torch.randperm(total, generator=generator)[: options.images] for _ in range(len(decay))]
    return Turned(
        labels["angle"],
        torch.stack(own),
        decay,
        options.batch,
        options.samples,
        options.tile,
        generator,
    )


def _begin(
    options: RNNZoo, count: int, generator: torch.Generator, device: torch.device
) -> dict[str, Tensor]:
    """Draw parameters as torch does: all layers here have as many inputs as hidden neurons."""
    bound = options.hidden**-0.5
    shapes = {name: p.shape for name, p in options.architecture.build().named_parameters()}
    return {
        name: torch.empty(count, *shape)
        .uniform_(-bound, bound, generator=generator)
        .to(device)
        .requires_grad_()
        for name, shape in shapes.items()
    }


def _rate(step: int, steps: int) -> float:
    return 1.0 if 2 * step < steps else LATER


def _advance(
    optimizer: torch.optim.Optimizer, networks: LSTMs, problem: Problem, lr: float
) -> None:
    # The networks share nothing, so the gradient of the sum is that of each loss.
    losses = problem.losses(networks)
    optimizer.zero_grad()
    losses.sum().backward()  # type: ignore[no-untyped-call]
    (group,) = optimizer.param_groups
    group["lr"] = lr
    optimizer.step()
    keep = 1 - lr * problem.decay.to(losses)
    with torch.no_grad():
        for parameter in group["params"]:
            parameter.mul_(keep.view(-1, *[1] * (parameter.dim() - 1)))


def _chunk(
    options: RNNZoo,
    labels: dict[str, Tensor],
    kept: Sequence[tuple[int, dict[str, Tensor], dict[str, Tensor]]],
) -> Chunk:
    """All snapshots of each network, one network after the other; diverged ones are left out."""
    _, final, _ = kept[-1]
    whole = torch.stack([p.flatten(1).isfinite().all(1) for p in final.values()]).all(0)

    def in_order(of_snapshots: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(of_snapshots), 1)[whole].flatten(0, 1)

    count = len(whole)
    steps = [torch.full((count,), step) for step, _, _ in kept]
    columns = {
        **{name: in_order([label] * len(kept)) for name, label in labels.items()},
        "step": in_order(steps),
        **{name: in_order([m[name].cpu() for _, _, m in kept]) for name in kept[0][2]},
    }
    tensors = {name: in_order([t[name] for _, t, _ in kept]) for name in final}
    return Chunk([Part(options.architecture, tensors, columns)], int((~whole).sum()))
