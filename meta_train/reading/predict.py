"""The command `predict`: networks that tell the class, accuracy or another property of networks."""

import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tqdm import tqdm

from meta_train.board.panel import open_writer
from meta_train.cache import digest
from meta_train.command import command
from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from meta_train.reading import pictures
from meta_train.reading.augmentation import Augmentation
from meta_train.reading.fit import fit
from meta_train.reading.options import FitOptions
from meta_train.reading.prediction import SPLITS, Prediction, baselines, examples
from meta_train.reading.readers import Reader, encoder_of, weights
from meta_train.reading.report import markdown
from meta_train.reading.results import Result, Table, Truth, table
from meta_train.reading.targets import Loss, Target, target_of
from meta_train.zoo.store import Zoo
from ngopt.images import figure_image


@dataclass(frozen=True)
class PredictOptions:
    """Learn to tell a property of networks from their weights, and compare ways to read them.

    Beside each reader stand a constant and, where the zoo has hyper-parameters, boosted trees on
    these alone. Killed at any moment, the same command goes on where it stopped.

    Args:
        zoo: folder of a zoo, from `python -m meta_train zoo`.
        target: a column of it: `class`, `accuracy`, `gap` (accuracy on training data minus that on
            test data), or any other.
        encoders: ways to read networks, with options, such as `ng_gnn:width=32,layers=4`.
        seeds: of first weights, batches and dropout; each encoder is trained with each.
        loss: `cross_entropy` of labels; `bce` of numbers from 0 to 1; `mse` of numbers; `auto` is
            the first of these that fits.
        hidden: width of the hidden layer that predicts from an encoding.
        dropout: in it, and of the encoding.
        out: folder of the report (`report.md`, `report.json`), pictures, curves and checkpoints.
        resamples: of the runs of the test split, for intervals.
        report: only write the report of what is there.
        imports: modules to import first, which define encoders of your own.
        fit: how they are trained.
        augment: how networks are changed at random in training.
    """

    zoo: Path
    target: str = "class"
    encoders: tuple[str, ...] = ("flat", "statistics", "ng_gnn", "one_pass")
    seeds: tuple[int, ...] = (0, 1, 2)
    loss: Loss = "auto"
    hidden: int = 128
    dropout: float = 0.1
    out: Path = Path("runs/predict")
    resamples: int = 1000
    report: bool = False
    imports: tuple[str, ...] = ()
    fit: Annotated[FitOptions, tyro.conf.arg(name="")] = field(default_factory=FitOptions)
    augment: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        repeated = [n for n in (self.encoders, self.seeds) if len(set(n)) < len(n) or not n]
        if repeated or min(self.resamples, self.hidden) < 1 or not 0 <= self.dropout < 1:
            raise MetaTrainError(
                f"cannot predict with encoders={self.encoders}, seeds={self.seeds}, "
                f"resamples={self.resamples}, hidden={self.hidden}, dropout={self.dropout}.\n"
                "  Give encoders and seeds, each once, and resamples and hidden of at least 1."
            )

    def key(self, zoo: Zoo) -> dict[str, Any]:
        """What the result of each run depends on, beside encoder and seed, as plain data."""
        plain = {
            "zoo": digest({"kind": zoo.kind, "options": zoo.options, "snapshots": len(zoo)}),
            "target": self.target,
            "loss": self.loss,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "augment": asdict(self.augment),
        }
        return dict(json.loads(json.dumps(plain)))


def run_predict(options: PredictOptions, echo: Callable[[str], None] = tqdm.write) -> Table:
    """Train all readers with all seeds, and report after each.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.

    Returns:
        The figures.
    """
    for module in options.imports:
        importlib.import_module(module)
    zoo = Zoo.open(options.zoo)
    target = target_of(zoo, options.target, options.loss)
    for text in options.encoders:  # so that a wrong name shows before hours of training
        encoder_of(text, examples(zoo), 0)
    blind = list(baselines(zoo, target))
    _write_baselines(options, blind)
    results = [*blind, *found(options, zoo)]
    if not options.report:
        for result in trained(options, zoo, target):
            results = _put(results, result)
            write_report(options, zoo, target, results, echo=None)
    if all(result.baseline for result in results):
        raise MetaTrainError(
            f"there are no results in {options.out} yet.\n  Leave out --report to train."
        )
    return write_report(options, zoo, target, results, echo)


def trained(options: PredictOptions, zoo: Zoo, target: Target) -> Iterator[Result]:
    """Train what is not yet there: the first seed of all encoders, then the next."""
    with world(options.fit.device) as processes:
        prediction = Prediction(zoo.to(processes.device), target, options.augment)
        for seed in options.seeds:
            for text in options.encoders:
                if _read(options, zoo, text, seed) is None:
                    yield _trained(options, zoo, prediction, text, seed)


def _trained(
    options: PredictOptions, zoo: Zoo, prediction: Prediction, text: str, seed: int
) -> Result:
    device = prediction.zoo.places.device
    encoder = encoder_of(text, examples(zoo), seed)
    reader = Reader(encoder, prediction.target.outputs, options.hidden, options.dropout, seed)
    reader = reader.to(device)
    folder, key = place(options, text, seed), options.key(zoo) | {"encoder": text}
    fitted = fit(reader, prediction, options.fit, seed, folder, f"{text}, seed {seed}", key)
    result = Result(
        text,
        seed,
        {split: prediction.predict(reader, split).tolist() for split in SPLITS},
        fitted.history,
        fitted.step,
        weights(reader),
        fitted.seconds,
        fitted.rate,
    )
    content = {"key": key | _fit_key(options), "result": asdict(result)}
    (folder / "result.json").write_text(json.dumps(content), "utf-8")
    return result


def place(options: PredictOptions, text: str, seed: int) -> Path:
    """Folder of a run."""
    return options.out / re.sub(r"[^\w.=-]+", "_", text) / f"seed-{seed}"


def found(options: PredictOptions, zoo: Zoo) -> list[Result]:
    """Results that are there already, of the encoders and seeds of the options."""
    each = [_read(options, zoo, t, seed) for t in options.encoders for seed in options.seeds]
    return [result for result in each if result is not None]


def _read(options: PredictOptions, zoo: Zoo, text: str, seed: int) -> Result | None:
    path = place(options, text, seed) / "result.json"
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["key"] == options.key(zoo) | {"encoder": text} | _fit_key(options):
            return Result(**content["result"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or cut short as it was written: its checkpoint tells
    return None


def _fit_key(options: PredictOptions) -> dict[str, Any]:
    plain = asdict(options.fit)
    del plain["device"]
    return plain


def _put(results: list[Result], result: Result) -> list[Result]:
    """Add a result to those of its reader, in the order in which readers came up first."""
    names = list(dict.fromkeys([*(r.reader for r in results), result.reader]))
    return sorted([*results, result], key=lambda r: (names.index(r.reader), r.seed))


def write_report(
    options: PredictOptions,
    zoo: Zoo,
    target: Target,
    results: list[Result],
    echo: Callable[[str], None] | None = None,
) -> Table:
    """Write `report.md`, `report.json` and pictures, and show the tables.

    Args:
        options: of the command.
        zoo: of the networks.
        target: what was predicted.
        results: so far.
        echo: shows the tables; without it, no pictures are drawn either.
    """
    runs = zoo.columns["run"]
    validation, test = (Truth(target.values[i], runs[i]) for i in map(zoo.split, SPLITS))
    figures = table(results, target.scores, validation, test, options.resamples)
    sizes = {name: len(zoo.split(name)) for name in ("train", *SPLITS)}
    counted = ", ".join(f"{count:,} {name}" for name, count in sizes.items())
    notes = [
        f"Zoo `{options.zoo}` ({zoo.kind}): {counted} networks; the test split is of "
        f"{len(torch.unique(test.runs)):,} runs.",
        f"Made by `{command()}`.",
    ]
    planned = len(options.encoders) * len(options.seeds)
    text = markdown(figures, f"Predict `{target.name}`", notes, planned)
    plain = {
        "command": command(),
        "options": asdict(options),
        "zoo": {"kind": zoo.kind, "options": zoo.options, **sizes},
        **asdict(figures),
        "results": [asdict(result) for result in results],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.md").write_text(text, "utf-8")
    (options.out / "report.json").write_text(json.dumps(plain, default=str, indent=1), "utf-8")
    if echo is not None:
        echo(f"\n{text}")
        _draw(options, target, results, test, echo)
        echo(f"Written to {options.out}.")
    return figures


def _draw(
    options: PredictOptions,
    target: Target,
    results: list[Result],
    test: Truth,
    echo: Callable[[str], None],
) -> None:
    if not find_spec("matplotlib"):
        echo('No pictures: for these, pip install "ngopt[draw]".')
        return
    first = list({result.reader: result for result in reversed(results)}.values())[::-1]
    drawn = {"curves": pictures.draw_curves(results, target.scores[0].name)}
    if target.classes:
        drawn["confusion"] = pictures.draw_confusion(first, test, target.classes)
    else:
        drawn["scatter"] = pictures.draw_scatter(first, test, target.name)
    pictures.save_figures(drawn, options.out)
    show_figures(drawn, options.out / "pictures")


def show_figures(figures: Mapping[str, Any], folder: Path) -> None:
    """Show figures in TensorBoard, if it is installed."""
    if not find_spec("tensorboard"):
        return
    with open_writer(folder, 0) as writer:
        for name, figure in figures.items():
            writer.add_image(f"4 {name}", figure_image(figure), 0)


def _write_baselines(options: PredictOptions, blind: list[Result]) -> None:
    """Draw baselines as level lines beside the curves of readers."""
    if not find_spec("tensorboard"):
        return
    for result in blind:
        with open_writer(options.out / "baselines" / result.reader, 0) as writer:
            for split in SPLITS:
                for number, (name, value) in enumerate(result.history[-1][split].items()):
                    group = "3" if number else "1"
                    for step in (0, 1000):
                        writer.add_scalar(f"{group} {name}/{split}", value, step)
