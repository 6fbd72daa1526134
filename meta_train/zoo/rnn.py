"""The command `zoo rnn`: LSTMs on formal languages, or on turned digits read tile by tile."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from meta_train.distributed import world
from meta_train.seeds import part_seed
from meta_train.table import table_lines
from meta_train.zoo.languages import Corpus, languages
from meta_train.zoo.making import make_zoo
from meta_train.zoo.pictures import split_of_runs
from meta_train.zoo.rnn_options import RnnOptions
from meta_train.zoo.rnn_problems import Problem, Speaking, Turned, digits
from meta_train.zoo.store import SPLITS, Zoo
from meta_train.zoo.writer import Chunk, Part, ZooWriter
from ngopt.encoders.recurrent import LSTMs

DECAYS = (0.0, 0.001, 0.01, 0.1)
"""Weight decays that networks on digits have."""

LANGUAGE_DECAY = 1e-4
LATER = 0.3
"""What the learning rate is multiplied by after half of the steps."""

ASSIGNMENT, CHUNKS = 0, 1
"""Parts that are drawn by themselves: tasks of networks, and the chunks."""


def run_rnn(options: RnnOptions, echo: Callable[[str], None] = tqdm.write) -> Zoo:
    """Make the zoo, or what is missing of it, and show how good the networks are.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.

    Raises:
        MetaTrainError: if the folder holds another zoo, or the images are missing.
    """
    options = options.scaled
    categories: dict[str, Sequence[str]] = {"snapshot": tuple(map(str, options.snapshots))}
    if options.task == "digits":
        digits()  # so that missing files show before anything is begun
    else:
        least, largest = options.surplus
        known = tuple(str(m) for m in range(least, largest + 1))
        categories |= dict.fromkeys(("m1", "m2", "m3"), known)
    chunks = -(-options.networks // options.chunk)
    writer = ZooWriter(options.folder, "rnn", options.plain(), chunks)
    each = min(options.chunk, options.networks)
    with world(options.device) as processes:
        make = partial(rnn_chunk, options, str(processes.device))
        zoo = make_zoo(writer, make, categories, each, options.processes)
    echo("\n".join(report(zoo)))
    return zoo


class Snapshot(NamedTuple):
    """Networks of a chunk after some steps: their parameters, and how good they were."""

    step: int
    parameters: Mapping[str, Tensor]
    figures: Mapping[str, Tensor]


def rnn_chunk(options: RnnOptions, device: str, number: int) -> Chunk:
    """Train the networks of one chunk, all at once.

    Args:
        options: of the zoo.
        device: to train them on.
        number: of the chunk.
    """
    first = number * options.chunk
    runs = torch.arange(first, min(first + options.chunk, options.networks))
    generator = torch.Generator().manual_seed(part_seed(options.seed, CHUNKS + number))
    labels = assignment(options, runs)
    problem = _problem(options, labels, generator)
    parameters = _begin(options, len(runs), generator, device)
    # Weight decay differs from network to network, and is added by hand.
    optimizer = torch.optim.AdamW(parameters.values(), options.lr, weight_decay=0, foreach=True)
    kept = []
    for step in range(options.snapshots[-1] + 1):
        networks = LSTMs.from_parameters(parameters, "lstm", "read_out")
        if step in options.snapshots:
            now = {name: p.detach().cpu().clone() for name, p in parameters.items()}
            kept.append(Snapshot(step, now, problem.measure(networks)))
        if step < options.snapshots[-1]:
            lr = options.lr * (1 if 2 * step < options.steps else LATER)
            _advance(optimizer, networks, problem, lr)
    return _chunk(options, labels, kept)


def assignment(options: RnnOptions, runs: Tensor) -> dict[str, Tensor]:
    """Split of networks, and what each learns, `(runs,)` each.

    Args:
        options: of the zoo.
        runs: numbers of the networks, `(runs,)`.
    """
    # Drawn for the whole zoo, so that no network depends on how many are trained at once.
    generator = torch.Generator().manual_seed(part_seed(options.seed, ASSIGNMENT))
    shares = (options.validation, options.test, generator)
    if options.task == "languages":
        spoken = languages(*options.surplus)
        split = split_of_runs(len(spoken), *shares)
        # Languages take turns, so that all have as many networks, give or take one.
        task = torch.randperm(len(spoken), generator=generator)[runs % len(spoken)]
        m = torch.tensor([language.surplus for language in spoken])[task] - options.surplus[0]
        known = dict(zip(("m1", "m2", "m3"), m.unbind(1), strict=True))
        known["weight_decay"] = torch.full((len(runs),), LANGUAGE_DECAY)
    else:
        split, task = split_of_runs(options.networks, *shares), runs
        angle = 360 * torch.rand(options.networks, generator=generator)[runs]
        drawn = torch.randint(len(DECAYS), (options.networks,), generator=generator)[runs]
        turn = torch.deg2rad(angle)
        known = {"angle": angle, "angle_cos": turn.cos(), "angle_sin": turn.sin()}
        known["weight_decay"] = torch.tensor(DECAYS)[drawn]
    return {"run": runs, "split": split[task], "task": task, **known}


def _problem(
    options: RnnOptions, labels: Mapping[str, Tensor], generator: torch.Generator
) -> Problem:
    decay = labels["weight_decay"]
    how = (decay, options.batch, options.samples)
    if options.task == "languages":
        spoken = languages(*options.surplus)
        return Speaking(spoken, Corpus.of(spoken, options.longest), labels["task"], *how, generator)
    total = len(digits().training)
    own = [torch.randperm(total, generator=generator)[: options.images] for _ in decay]
    return Turned(labels["angle"], torch.stack(own), *how, options.tile, generator)


def _begin(
    options: RnnOptions, count: int, generator: torch.Generator, device: str
) -> dict[str, Tensor]:
    """Draw parameters as torch does; in this model all have the same bounds."""
    bound = options.hidden**-0.5
    shapes = {name: p.shape for name, p in options.architecture.build().named_parameters()}
    drawn = {
        name: torch.empty(count, *shape).uniform_(-bound, bound, generator=generator)
        for name, shape in shapes.items()
    }
    return {name: tensor.to(device).requires_grad_() for name, tensor in drawn.items()}


def _advance(
    optimizer: torch.optim.Optimizer, networks: LSTMs, problem: Problem, lr: float
) -> None:
    losses = problem.losses(networks)
    optimizer.zero_grad()
    # The networks share nothing, so the gradient of the sum holds that of each.
    losses.sum().backward()  # type: ignore[no-untyped-call]
    (group,) = optimizer.param_groups
    group["lr"] = lr
    optimizer.step()
    kept = 1 - lr * problem.decay.to(losses)
    with torch.no_grad():
        for parameter in group["params"]:
            parameter.mul_(kept.view(-1, *[1] * (parameter.dim() - 1)))


def _chunk(options: RnnOptions, labels: Mapping[str, Tensor], kept: Sequence[Snapshot]) -> Chunk:
    """All snapshots of each network, one network after the other; diverged ones are left out."""
    last = kept[-1].parameters
    whole = torch.stack([p.flatten(1).isfinite().all(1) for p in last.values()]).all(0)

    def joined(of_snapshots: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(of_snapshots), 1)[whole].flatten(0, 1)

    columns = {name: joined([label] * len(kept)) for name, label in labels.items()}
    for name, values in (("step", [s.step for s in kept]), ("snapshot", range(len(kept)))):
        columns[name] = torch.tensor(values).repeat(int(whole.sum()))
    for name in kept[0].figures:
        columns[name] = joined([snapshot.figures[name].cpu() for snapshot in kept])
    tensors = {name: joined([snapshot.parameters[name] for snapshot in kept]) for name in last}
    return Chunk([Part(options.architecture, tensors, columns)], int((~whole).sum()))


def report(zoo: Zoo) -> list[str]:
    """Lines on how good the networks are after each of the steps."""
    counted = ", ".join(f"{len(zoo.split(name)):,} {name}" for name in SPLITS)
    rows = []
    for step in torch.unique(zoo.columns["step"]).tolist():
        at = zoo.columns["step"] == step
        accuracy, loss = zoo.columns["accuracy"][at], zoo.columns["loss"][at].mean()
        low, high = accuracy.quantile(torch.tensor([0.1, 0.9])).tolist()
        rows.append([f"{step:,}", f"{accuracy.mean():.3f}", f"{low:.3f} to {high:.3f}"])
        rows[-1].append(f"{loss:.3f}")
    head = ["step", "accuracy", "80 % of networks", "loss"]
    return [
        f"{len(zoo):,} snapshots ({counted}) in {zoo.folder}; {zoo.dropped} networks diverged.",
        *table_lines(head, rows),
    ]
