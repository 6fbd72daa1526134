"""The command `emulate`: encoders of recurrent networks that teach an emulator to be them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import nn
from tqdm import tqdm

from meta_train.errors import MetaTrainError
from meta_train.reading.behaviour import observer_of
from meta_train.reading.bench import Bench, Echo, place
from meta_train.reading.downstream import Column, Head, Property, Telling, property_of
from meta_train.reading.emulator import (
    TOTAL_VARIATION,
    Constant,
    Embedding,
    Emulating,
    Emulation,
    Emulator,
    read_kept,
)
from meta_train.reading.fit import SPLITS
from meta_train.reading.options import ComparisonOptions, FitOptions
from meta_train.reading.pictures import draw_confusion, draw_curves, draw_scatter
from meta_train.reading.predict import description, identity
from meta_train.reading.prediction import examples
from meta_train.reading.readers import encoder_of
from meta_train.reading.results import Result, Table, Truth, first_of_each
from meta_train.reading.summary import write_summary
from meta_train.zoo.store import Zoo
from ngopt.encoders.networks import Networks
from ngopt.encoders.recurrent import LSTMs

CONSTANT = "constant"

ALL = (
    CONSTANT,
    "statistics",
    "flat_augmented",
    "neuron_transformer",
    "dws:width=16",
    "fixed_probing",
    "interactive_probing",
)
"""The six encoders of recurrent networks, and one that tells all networks alike."""

FULL = {
    "neuron_transformer": "neuron_transformer:token=128,layers=6,heads=2,dropout=0.1",
    "dws:width=16": "dws:width=48,layers=4",
    "fixed_probing": "fixed_probing:units=256",
    "interactive_probing": "interactive_probing:units=256",
}
"""Encoders at the size of the source, by those that take their place on a CPU."""

PROPERTIES = {
    "languages": ("language", "accuracy", "snapshot"),
    "digits": ("angle_cos", "angle_sin", "accuracy", "gap", "snapshot"),
}
"""What encodings are asked for, by what the networks have learned."""

PUBLISHED = FitOptions(batch=64, lr=1e-4, weight_decay=0.01, clip=0.1, final=1.0)
PUBLISHED_STEPS = 100_000

Mode = Literal["frozen", "fine_tuned", "scratch"]


@dataclass(frozen=True)
class EmulateOptions(ComparisonOptions):
    """Encode recurrent networks so that an emulator can do what they do, and compare encoders.

    An emulator, an LSTM, reads the encoding of a network and then what the network reads, and is to
    give the same answers. Then heads learn to tell from the encodings what the networks have
    learned, on languages that were never seen. Beside all results stands `constant`: an emulator
    that knows of no network, and the commonest label. Killed at any moment, the same command goes
    on where it stopped.

    Source: Herrmann, Faccio and Schmidhuber, "Learning useful representations of recurrent neural
    network weight matrices", ICML 2024.

    Args:
        zoo: folder of a zoo, from `python -m meta_train zoo rnn`.
        encoders: ways to read networks, with options, such as `interactive_probing:length=12`; or
            `all`, which are the six of the source and `constant`.
        scale: `full` is that of the source: emulator and cores of 2 layers of 256 units, 100,000
            steps of 64 networks, learning rate 1e-4.
        embedding: size of an encoding, whose length is 1.
        units: of each layer of the emulator.
        layers: of the emulator.
        sequences: that a network reads in a step.
        judged: sequences that a network is judged by.
        properties: what heads tell: `language`, or columns of the zoo; by default those of the
            source.
        modes: whether encoders stay as emulation left them (`frozen`), go on learning with the head
            (`fine_tuned`), or start anew (`scratch`).
        out: folder of reports, pictures, curves and checkpoints.
        fit: how encoders and emulators are trained. Gradients of the two are shortened each by
            itself.
        heads: how heads are trained, with encoders that go on learning too.
    """

    zoo: Path = Path("runs/zoo/rnn")
    encoders: tuple[str, ...] = ("all",)
    scale: Literal["small", "full"] = "small"
    embedding: int = 16
    units: int = 64
    layers: int = 2
    sequences: int = 1
    judged: int = 4
    properties: tuple[str, ...] = ()
    modes: tuple[Mode, ...] = ("frozen",)
    out: Path = Path("runs/emulate")
    fit: Annotated[FitOptions, tyro.conf.arg(name="")] = field(
        default_factory=lambda: FitOptions(
            epochs=60, batch=64, lr=2e-3, weight_decay=0.01, clip=0.1
        )
    )
    heads: FitOptions = field(
        default_factory=lambda: FitOptions(epochs=40, batch=128, lr=3e-3, clip=1.0)
    )

    def __post_init__(self) -> None:
        sizes = (self.embedding, self.units, self.layers, self.sequences, self.judged)
        if min(sizes) < 1 or len(set(self.modes)) < len(self.modes):
            raise MetaTrainError(
                f"cannot emulate with embedding={self.embedding}, units={self.units}, "
                f"layers={self.layers}, sequences={self.sequences}, judged={self.judged}, "
                f"modes={self.modes}.\n  Use numbers of at least 1, and each mode once."
            )

    @property
    def readers(self) -> tuple[str, ...]:
        """The encoders, where `all` stands for several."""
        listed = [ALL if text == "all" else (text,) for text in self.encoders]
        return tuple(dict.fromkeys(text for texts in listed for text in texts))

    def scaled(self, zoo: Zoo) -> "EmulateOptions":
        """These options, or those of the source if the full scale is asked for."""
        if self.scale == "small":
            return self
        steps_per_epoch = max(1, len(zoo.split("train")) // PUBLISHED.batch)
        fit = replace(PUBLISHED, epochs=PUBLISHED_STEPS / steps_per_epoch, device=self.fit.device)
        encoders = tuple(FULL.get(text, text) for text in self.readers)
        return replace(self, scale="small", units=256, fit=fit, encoders=encoders)


def run_emulate(options: EmulateOptions, echo: Echo = tqdm.write) -> dict[str, Table]:
    """Train all encoders with all seeds, then heads, and report after each.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.

    Returns:
        The figures of emulation, and of each property and mode.
    """
    zoo = options.open(options.zoo)
    options = options.scaled(zoo)
    observer_of(zoo)  # so that a zoo of another kind shows at once
    first = emulation(options, zoo)
    tables = {"emulation": first.run(echo, train=not options.report)}
    names = options.properties or PROPERTIES[str(zoo.options["task"])]
    for mode in options.modes:
        for name in names:
            bench = downstream(options, zoo, first, property_of(zoo, name), mode)
            tables[f"{name}, {mode}"] = bench.run(echo, train=not options.report)
    notes = [description(options.zoo, zoo)]
    write_summary(options.out, "Encoders of recurrent networks", tables, notes, echo)
    return tables


def emulation(options: EmulateOptions, zoo: Zoo) -> Bench:
    """All encoders of the options with an emulator each."""
    known = examples(zoo)
    networks = LSTMs.of(known.stacks[0])

    def build(text: str, seed: int) -> Emulation:
        emulator = Emulator(
            networks.inputs,
            networks.outputs,
            options.embedding,
            options.units,
            options.layers,
            seed,
        )
        return Emulation(_embedding(options, known, text, seed), emulator)

    runs = zoo.columns["run"]
    validation, test = (Truth(torch.zeros(len(i)), runs[i]) for i in map(zoo.split, SPLITS))
    sizes = {name: getattr(options, name) for name in ("embedding", "units", "layers")}
    return Bench(
        out=options.out / "emulation",
        readers=options.readers,
        seeds=options.seeds,
        fit=options.fit,
        resamples=options.resamples,
        key=identity(zoo) | sizes | {"sequences": options.sequences, "judged": options.judged},
        title="Emulation of recurrent networks",
        notes=(
            description(options.zoo, zoo),
            "Total variation: half the sum of absolute differences between the probabilities of "
            "the emulator and of the network, mean over answers. `constant` knows of no network.",
        ),
        scores=(TOTAL_VARIATION,),
        validation=validation,
        test=test,
        build=build,
        reading=lambda device: Emulating(
            zoo.to(device), observer_of(zoo), options.sequences, options.judged
        ),
        baselines=(),
        figures=lambda results: {"curves": draw_curves(results, TOTAL_VARIATION.name)},
    )


def downstream(
    options: EmulateOptions, zoo: Zoo, first: Bench, wanted: Property, mode: Mode
) -> Bench:
    """Heads on all encoders that have been trained, to tell one property.

    Args:
        options: everything there is to choose.
        zoo: of the networks.
        first: has trained the encoders.
        wanted: the property.
        mode: what becomes of the encoders.
    """
    known = examples(zoo)

    def build(text: str, seed: int) -> Head:
        state, encodings = read_kept(place(first.out, text, seed))
        if mode == "frozen":
            return Head(None, encodings, options.embedding, wanted.outputs, seed)
        encoder = _embedding(options, known, text, seed)
        if mode == "fine_tuned":
            encoder.load_state_dict(state)
        return Head(encoder, None, options.embedding, wanted.outputs, seed)

    runs = zoo.columns["run"]
    validation, test = (Truth(wanted.truth[i], runs[i]) for i in map(zoo.split, SPLITS))
    done = {
        "frozen": "as emulation left them",
        "fine_tuned": "which go on learning",
        "scratch": "which have learned nothing before",
    }
    return Bench(
        out=options.out / mode / wanted.name,
        readers=tuple(text for text in options.readers if text != CONSTANT),
        seeds=options.seeds,
        fit=options.heads,
        resamples=options.resamples,
        key={
            **first.key,
            "emulation": asdict(options.fit) | {"device": None},
            "mode": mode,
            "property": wanted.name,
        },
        title=f"`{wanted.name}`, predicted from encodings",
        notes=(description(options.zoo, zoo), f"Heads on encoders {done[mode]}."),
        scores=wanted.scores,
        validation=validation,
        test=test,
        build=build,
        reading=lambda device: Telling(zoo.to(device), property_of(zoo.to(device), wanted.name)),
        baselines=wanted.baselines(),
        figures=partial(_figures, wanted, test),
    )


def _embedding(options: EmulateOptions, known: Networks, text: str, seed: int) -> Embedding:
    encoder: nn.Module = Constant() if text == CONSTANT else encoder_of(text, known, seed)
    return Embedding(encoder, options.embedding, seed)


def _figures(wanted: Property, test: Truth, results: Sequence[Result]) -> dict[str, Any]:
    drawn = {"curves": draw_curves(results, wanted.scores[0].name)}
    if not isinstance(wanted, Column):
        return drawn
    shown = first_of_each(results)
    if wanted.target.classes:
        return drawn | {"confusion": draw_confusion(shown, test, wanted.target.classes)}
    return drawn | {"scatter": draw_scatter(shown, test, wanted.name)}
