"""The command `predict`: networks that tell the class, accuracy or another property of networks."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tqdm import tqdm

from meta_train.cache import digest
from meta_train.reading.augmentation import Augmentation
from meta_train.reading.bench import Bench
from meta_train.reading.fit import SPLITS
from meta_train.reading.options import ComparisonOptions, FitOptions
from meta_train.reading.pictures import draw_confusion, draw_curves, draw_scatter
from meta_train.reading.prediction import Prediction, baselines, examples
from meta_train.reading.readers import Reader, encoder_of
from meta_train.reading.results import Result, Table, Truth, first_of_each
from meta_train.reading.targets import Loss, Target, target_of
from meta_train.zoo.store import Zoo


@dataclass(frozen=True)
class PredictOptions(ComparisonOptions):
    """Learn to tell a property of networks from their weights, and compare ways to read them.

    Beside each reader stand a constant and, where the zoo has hyper-parameters, boosted trees on
    these alone. Killed at any moment, the same command goes on where it stopped.

    Args:
        zoo: folder of a zoo, from `python -m meta_train zoo`.
        target: a column of it: `class`, `accuracy`, `gap` (accuracy on training data minus that on
            test data), or any other.
        encoders: ways to read networks, with options, such as `ng_gnn:width=32,layers=4`.
        loss: `cross_entropy` of labels; `bce` of numbers from 0 to 1; `mse` of numbers; `auto` is
            the first of these that fits.
        hidden: width of the hidden layer that predicts from an encoding.
        dropout: in it, and of the encoding.
        out: folder of the report (`report.md`, `report.json`), pictures, curves and checkpoints.
        fit: how they are trained.
        augment: how networks are changed at random in training.
    """

    zoo: Path
    target: str = "class"
    encoders: tuple[str, ...] = ("flat", "statistics", "ng_gnn", "one_pass")
    loss: Loss = "auto"
    hidden: int = 128
    dropout: float = 0.1
    out: Path = Path("runs/predict")
    fit: Annotated[FitOptions, tyro.conf.arg(name="")] = field(default_factory=FitOptions)
    augment: Augmentation = field(default_factory=Augmentation)


def run_predict(options: PredictOptions, echo: Callable[[str], None] = tqdm.write) -> Table:
    """Train all readers with all seeds, and report after each.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.

    Returns:
        The figures.
    """
    zoo = options.open(options.zoo)
    target = target_of(zoo, options.target, options.loss)
    return bench(options, zoo, target).run(echo, train=not options.report)


def bench(options: PredictOptions, zoo: Zoo, target: Target) -> Bench:
    """All readers of the options on one zoo and target."""
    options.augment.check(zoo.stacks)
    known = examples(zoo)

    def build(text: str, seed: int) -> Reader:
        encoder = encoder_of(text, known, seed)
        return Reader(encoder, target.outputs, options.hidden, options.dropout, seed)

    runs = zoo.columns["run"]
    validation, test = (Truth(target.values[i], runs[i]) for i in map(zoo.split, SPLITS))
    return Bench(
        out=options.out,
        readers=options.encoders,
        seeds=options.seeds,
        fit=options.fit,
        resamples=options.resamples,
        key=identity(zoo)
        | {
            "target": target.name,
            "loss": target.loss,
            "hidden": options.hidden,
            "dropout": options.dropout,
            "augment": asdict(options.augment),
        },
        title=f"Predict `{target.name}`",
        notes=(description(options.zoo, zoo),),
        scores=target.scores,
        validation=validation,
        test=test,
        build=build,
        reading=lambda device: Prediction(zoo.to(device), target, options.augment),
        baselines=tuple(baselines(zoo, target)),
        figures=partial(_figures, target, test),
    )


def identity(zoo: Zoo) -> dict[str, Any]:
    """What tells a zoo from others, as plain data."""
    plain = {"kind": zoo.kind, "options": dict(zoo.options), "snapshots": len(zoo)}
    return {"zoo": digest(plain)}


def description(folder: Path, zoo: Zoo) -> str:
    """A sentence on a zoo and its splits."""
    counted = ", ".join(f"{len(zoo.split(name)):,} {name}" for name in ("train", *SPLITS))
    runs = len(torch.unique(zoo.columns["run"][zoo.split("test")]))
    return f"Zoo `{folder}` ({zoo.kind}): networks: {counted}, the last of {runs:,} runs."


def _figures(target: Target, test: Truth, results: Sequence[Result]) -> dict[str, Any]:
    drawn = {"curves": draw_curves(results, target.scores[0].name)}
    first = first_of_each(results)
    if target.classes:
        return drawn | {"confusion": draw_confusion(first, test, target.classes)}
    return drawn | {"scatter": draw_scatter(first, test, target.name)}
