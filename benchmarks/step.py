"""What a step costs: our optimizer beside torch's, on models from small to large.

    python -m benchmarks.step                                   # four models, one thread
    python -m benchmarks.step --models gpt2 vit --device cuda
    python -m benchmarks.step --others some.package:ItsOptimizer

All contestants train the same model. They take turns in rounds, each with a forward and backward
pass of its own before each step, so that ratios hold on a busy machine too and nothing is timed
with warm caches. An optimizer of another package is built from the parameters alone.
"""

import importlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Muon, Optimizer

from benchmarks.contestant import Build, Contestant, Turn
from benchmarks.models import (
    GPT2,
    Objective,
    ResNet,
    Scales,
    Stack,
    Transformer,
    ViT,
    convnet,
    images,
    loss_on,
    perceptron,
)
from benchmarks.models import words as text
from benchmarks.pieces import write
from meta_train.table import table_lines
from ngopt import NeuralGraphOptimizer
from ngopt.rules import MatrixGNN

REFERENCE = "Adam, foreach"
LR = 1e-6
"""So small that nothing diverges, whatever the optimizer does with gradients of random labels."""


class Case(NamedTuple):
    """A model and what it is trained on."""

    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[], Any]
    objective: Objective = loss_on


CASES: dict[str, Case] = {
    "mlp": Case("MLP 784-128-10, batch 128", perceptron, images(128, 784)),
    "convnet": Case(
        "convnet 3-16-32-32, batch 128", lambda: convnet(3, 16), images(128, 3, 32, 32)
    ),
    "transformer": Case("transformer, batch 16 x 64", Transformer, text(128, 16, 64)),
    "resnet": Case("ResNet-18, batch 8", ResNet, images(8, 3, 224, 224)),
    "gpt2": Case("GPT-2 small, batch 1 x 64", GPT2, text(50257, 1, 64)),
    "vit": Case("ViT-B/16, batch 32", ViT, images(32, 3, 224, 224)),
    "scales": Case("300 tensors of 3, batch 32", Scales, images(32, 3)),
    "stack1": Case("4 layers of 512, batch 32", lambda: Stack(4), images(32, 512)),
    "stack10": Case("40 layers of 512, batch 32", lambda: Stack(40), images(32, 512)),
    "stack100": Case("400 layers of 512, batch 32", lambda: Stack(400), images(32, 512)),
}


def ours(rule: str = "default", **options: Any) -> Build:
    """Our optimizer, with a shipped rule or, given options, a fresh one."""
    if not options:
        return lambda model: [NeuralGraphOptimizer(model, LR, rule=rule)]
    return lambda model: [NeuralGraphOptimizer(model, LR, rule=MatrixGNN(**options))]


def muon(model: nn.Module) -> list[Optimizer]:
    """Muon for matrices, which is all it takes, and AdamW for all else."""
    weights = list(model.parameters())
    found: list[Optimizer] = [Muon([w for w in weights if w.dim() == 2], lr=LR)]
    rest = [w for w in weights if w.dim() != 2]
    return [*found, AdamW(rest, LR, foreach=True)] if rest else found


CONTESTANTS: dict[str, Build] = {
    REFERENCE: lambda model: [Adam(model.parameters(), LR, foreach=True)],
    "Adam, fused": lambda model: [Adam(model.parameters(), LR, fused=True)],
    "AdamW, foreach": lambda model: [AdamW(model.parameters(), LR, foreach=True)],
    "Muon": muon,
    "ngopt": ours(),
    "ngopt, light": ours("light"),
    "fresh MatrixGNN, no graph": ours(
        context_every=8, square_dtype="bfloat16", graph_context=False
    ),
    "fresh MatrixGNN, float32 state": ours(context_every=8, momentum_dtype="float32"),
    "fresh MatrixGNN, nothing cached": ours(square_dtype="bfloat16"),
}


@dataclass(frozen=True)
class Options:
    """What a step costs.

    Args:
        models: of `mlp`, `convnet`, `transformer`, `resnet`, `gpt2` and `vit`; of `scales`, which
            is many small tensors; and of `stack1`, `stack10` and `stack100`, which differ in the
            number of layers alone.
        contestants: whom to measure beside Adam; by default all.
        others: more optimizers, each as `package.module:Class`.
        rounds: how often each has its turn.
        threads: of the CPU.
        device: `cpu` or `cuda`.
        out: what to write, with endings `.json`, `.md` and `.png`.
    """

    models: tuple[str, ...] = ("mlp", "convnet", "transformer", "resnet")
    contestants: tuple[str, ...] = tuple(CONTESTANTS)
    others: tuple[str, ...] = ()
    rounds: int = 7
    threads: int = 1
    device: str = "cpu"
    out: Path = Path("results/step")


@dataclass(frozen=True)
class Figures:
    """What a contestant's steps cost on a model.

    Args:
        model: the model.
        contestant: the optimizer.
        step_ms: median time of a step.
        step_ratio: to the reference's, median over rounds.
        whole_ratio: the same of forward pass, backward pass and step.
        ns: time of a step per parameter.
        state: bytes of the optimizer's state per parameter.
        transient: bytes per parameter that a step needs for a while, at most.
        first_s: extra seconds of the first steps, with whatever is traced, recorded or compiled.
    """

    model: str
    contestant: str
    step_ms: float
    step_ratio: float
    whole_ratio: float
    ns: float
    state: float
    transient: float
    first_s: float


def other(path: str) -> Build:
    """An optimizer of another package, `package.module:Class`."""
    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name)
    return lambda model: [found(model.parameters())]


def measure(case: Case, builds: dict[str, Build], rounds: int, device: str) -> list[Figures]:
    """Let all contestants, of which the first is the reference, take turns on a model."""
    torch.manual_seed(0)
    model, batch = case.build().to(device), _moved(case.batch(), device)
    size = sum(weight.numel() for weight in model.parameters())
    field = {
        name: Contestant(build, model, batch, case.objective) for name, build in builds.items()
    }
    turns: dict[str, list[Turn]] = {name: [] for name in field}
    for _ in range(rounds):
        for name, contestant in field.items():
            turns[name].append(contestant.turn())
    reference = turns[next(iter(field))]
    figures = []
    for name, contestant in field.items():
        pairs = list(zip(turns[name], reference, strict=True))
        step = statistics.median(turn.step for turn in turns[name])
        figures.append(
            Figures(
                case.name,
                name,
                1e3 * step,
                statistics.median(own.step / its.step for own, its in pairs),
                # Their passes are the same work: only the step may make a difference.
                statistics.median((its.passes + own.step) / sum(its) for own, its in pairs),
                1e9 * step / size,
                contestant.state() / size,
                statistics.median(contestant.transient() for _ in range(3)) / size,
                contestant.first,
            )
        )
    return figures


def _moved(batch: Any, device: str) -> Any:
    """A tensor, or several, on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    return tuple(tensor.to(device) for tensor in batch)


def markdown(found: Sequence[Figures], options: Options) -> str:
    """A table for each model."""
    lines = [
        "# What a step costs",
        "",
        f"{options.device}, {options.threads} thread(s), torch {torch.__version__}; medians of "
        f"{options.rounds} rounds in which all took turns; ratios are to {REFERENCE}, of the same "
        "round. Whole: forward pass, backward pass and step. State, transient: bytes per "
        "parameter. First: extra seconds of the first steps.",
    ]
    head = ["", "step", "ratio", "whole", "ns per parameter", "state", "transient", "first"]
    for model in dict.fromkeys(figures.model for figures in found):
        rows = [
            [
                row.contestant,
                f"{row.step_ms:.3g} ms",
                f"{row.step_ratio:.1f}",
                f"{row.whole_ratio:.2f}",
                f"{row.ns:.1f}",
                f"{row.state:.1f}",
                f"{row.transient:.1f}",
                f"{row.first_s:.1f} s",
            ]
            for row in found
            if row.model == model
        ]
        lines += ["", f"## {model}", "", *table_lines(head, rows)]
    return "\n".join([*lines, ""])


def plot(found: Sequence[Figures], path: Path) -> None:
    """Draw the ratios of steps and of whole steps."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.contestant for row in found))
    models = list(dict.fromkeys(row.model for row in found))
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("step_ratio", "whole_ratio"), strict=True):
        for number, name in enumerate(names):
            own = {row.model: getattr(row, key) for row in found if row.contestant == name}
            places = [place + 0.8 * number / len(names) for place in range(len(models))]
            axes.bar(places, [own[model] for model in models], 0.8 / len(names), label=name)
        axes.set_yscale("log")
        axes.set_xticks(range(len(models)), [model.replace(", ", "\n") for model in models])
        axes.set_title(f"{key.removesuffix('_ratio')}, ratio to {REFERENCE}")
    axes.legend(fontsize="small")
    figure.savefig(path)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(options: Options) -> list[Figures]:
    """Measure, and write table and plot."""
    names = [REFERENCE, *(name for name in options.contestants if name != REFERENCE)]
    builds = {name: CONTESTANTS[name] for name in names}
    builds |= {path.partition(":")[2]: other(path) for path in options.others}
    found: list[Figures] = []
    with threads(options.threads):
        for model in options.models:
            found += measure(CASES[model], builds, options.rounds, options.device)
    plain = {"options": asdict(options), "found": [asdict(figures) for figures in found]}
    write(options.out, plain, markdown(found, options))
    plot(found, Path(f"{options.out}.png"))
    return found


def main() -> None:
    """Read the options and run."""
    run(tyro.cli(Options, description=__doc__))


if __name__ == "__main__":
    main()
