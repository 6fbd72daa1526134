"""The command `edit`: networks that change networks, so that their images are edited."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from meta_train.errors import MetaTrainError
from meta_train.reading.bench import Bench, place
from meta_train.reading.editor import ERROR, Editing, Editor, edited_images
from meta_train.reading.filters import EDITS
from meta_train.reading.fit import SPLITS
from meta_train.reading.options import ComparisonOptions, FitOptions
from meta_train.reading.pictures import draw_curves, draw_images
from meta_train.reading.predict import description, identity
from meta_train.reading.prediction import examples
from meta_train.reading.readers import encoder_of
from meta_train.reading.results import Result, Table, Truth, first_of_each
from meta_train.zoo.siren import ImageNetwork
from meta_train.zoo.store import Zoo


@dataclass(frozen=True)
class EditOptions(ComparisonOptions):
    """Learn to change the weights of networks that are images, so that the images are edited.

    What an encoder tells of each weight is added to it. Beside each editor stand the networks as
    they are (`identity`), and their images edited as images, which no change of weights need reach
    (`edited as images`): its error is that of the networks at their own images. Killed at any
    moment, the same command goes on where it stopped.

    Args:
        zoo: folder of a zoo of INRs, from `python -m meta_train zoo inr`.
        edit: `dilate` or `erode` (maximum or minimum of 3 x 3 pixels), or `contrast` (local).
        encoders: ways to read networks that tell of each weight, such as `ng_gnn:width=32`.
        out: folder of the report (`report.md`, `report.json`), pictures, curves and checkpoints.
        fit: how they are trained.
    """

    zoo: Path
    edit: Literal["dilate", "erode", "contrast"] = "dilate"
    encoders: tuple[str, ...] = ("ng_gnn",)
    out: Path = Path("runs/edit")
    fit: Annotated[FitOptions, tyro.conf.arg(name="")] = field(
        default_factory=lambda: FitOptions(clip=1.0)
    )


def run_edit(options: EditOptions, echo: Callable[[str], None] = tqdm.write) -> Table:
    """Train all editors with all seeds, and report after each.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.

    Returns:
        The figures.
    """
    zoo = options.open(options.zoo)
    check(zoo)
    return bench(options, zoo).run(echo, train=not options.report)


def check(zoo: Zoo) -> None:
    """Raise `MetaTrainError` unless a zoo is of images."""
    if "images" not in zoo.examples or not all(
        isinstance(stack.model, ImageNetwork) for stack in zoo.stacks
    ):
        raise MetaTrainError(
            f"cannot edit the networks in {zoo.folder}: they are no images.\n"
            "  Give a zoo of INRs: `python -m meta_train zoo inr`."
        )


def bench(options: EditOptions, zoo: Zoo) -> Bench:
    """All editors of the options on one zoo."""
    known, edit = examples(zoo), EDITS[options.edit]

    def build(text: str, seed: int) -> Editor:
        return Editor(encoder_of(text, known, seed, entry_outputs=1))

    # Predictions are errors of networks, which would be 0 at best.
    runs = zoo.columns["run"]
    validation, test = (Truth(torch.zeros(len(i)), runs[i]) for i in map(zoo.split, SPLITS))
    return Bench(
        out=options.out,
        readers=options.encoders,
        seeds=options.seeds,
        fit=options.fit,
        resamples=options.resamples,
        key=identity(zoo) | {"edit": options.edit},
        title=f"Edit images: {options.edit}",
        notes=(description(options.zoo, zoo),),
        scores=(ERROR,),
        validation=validation,
        test=test,
        build=build,
        reading=lambda device: Editing(zoo.to(device), edit),
        baselines=tuple(baselines(zoo, edit)),
        figures=partial(_figures, options, Editing(zoo, edit)),
    )


def baselines(zoo: Zoo, edit: Callable[[Tensor], Tensor]) -> Iterator[Result]:
    """Errors of networks as they are, and of their images edited as images."""
    editing = Editing(zoo, edit)
    for name, change in (("identity", lambda shown: shown), ("edited as images", edit)):
        errors = {split: editing.errors(split, change) for split in SPLITS}
        entry = {split: {ERROR.name: float(found.mean())} for split, found in errors.items()}
        plain = {split: found.tolist() for split, found in errors.items()}
        yield Result(name, 0, plain, [{"step": 0, "epoch": 0.0, **entry}], baseline=True)


def _figures(options: EditOptions, editing: Editing, results: Sequence[Result]) -> dict[str, Any]:
    shown = editing.shown()
    rows = {
        "original": editing.originals(shown),
        "decoded": editing.decoded(shown),
        "target": editing.targets(shown),
    }
    for result in first_of_each(results):
        if not result.baseline:
            rows[result.reader] = edited_images(place(options.out, result.reader, result.seed))
    return {"curves": draw_curves(results, ERROR.name), "edits": draw_images(rows)}
