"""Several readers with several seeds on one task: training, results in files, reports."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from meta_train.board.panel import open_writer
from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from meta_train.provenance import command
from meta_train.reading.fit import SPLITS, Reading, fit
from meta_train.reading.options import FitOptions
from meta_train.reading.pictures import save_figures
from meta_train.reading.readers import weights
from meta_train.reading.report import markdown
from meta_train.reading.results import Result, Table, Truth, table
from meta_train.reading.scores import Score
from ngopt.encoders.encoder import Encoder
from ngopt.encoders.library import save_encoder
from ngopt.monitor.images import figure_image

Echo: TypeAlias = Callable[[str], None]

FIRST, LAST = 0, 1000
"""Steps between which baselines are drawn as level lines."""


@dataclass(frozen=True)
class Bench:
    """Readers that are compared on one task.

    Args:
        out: folder of the report, pictures, curves and checkpoints.
        readers: their names, with options.
        seeds: of first weights, batches and dropout; each reader is trained with each.
        fit: how they are trained.
        resamples: of the runs of the test split.
        key: what results depend on beside all this, as plain data.
        title: of the report.
        notes: paragraphs that stand first in it.
        scores: how predictions are measured.
        validation: what is true there.
        test: what is true there.
        build: a fresh reader by its name and seed.
        reading: what is learned, on a device.
        baselines: what needs no training.
        figures: of matplotlib by name, from all results.
    """

    out: Path
    readers: tuple[str, ...]
    seeds: tuple[int, ...]
    fit: FitOptions
    resamples: int
    key: Mapping[str, Any]
    title: str
    notes: Sequence[str]
    scores: Sequence[Score]
    validation: Truth
    test: Truth
    build: Callable[[str, int], nn.Module]
    reading: Callable[[torch.device], Reading]
    baselines: Sequence[Result]
    figures: Callable[[Sequence[Result]], dict[str, Any]]

    def __post_init__(self) -> None:
        for name, items in (("readers", self.readers), ("seeds", self.seeds)):
            if not items or len(set(items)) < len(items):
                raise MetaTrainError(
                    f"cannot compare the {name} {items}.\n  Give one or more, each once."
                )
        if self.resamples < 1:
            raise MetaTrainError("cannot tell intervals without resamples.\n  Use at least 1.")
        for text in self.readers:  # so that a wrong name shows before hours of training
            self.build(text, self.seeds[0])

    def run(self, echo: Echo, train: bool = True) -> Table:
        """Train what is not there yet, and report after each run.

        Args:
            echo: shows a line of text.
            train: whether to train; else only what is there is reported.

        Raises:
            MetaTrainError: if there is nothing to report.
        """
        self._show_baselines()
        results = [*self.baselines, *self._found()]
        if train:
            for result in self._trained():
                results = [*results, result]
                self._write(self._sorted(results))
        results = self._sorted(results)
        if len(results) == len(self.baselines):
            raise MetaTrainError(
                f"there are no results in {self.out} yet.\n  Leave out --report to train."
            )
        figures, text = self._write(results)
        echo(f"\n{text}")
        self._draw(results, echo)
        echo(f"Written to {self.out}.")
        return figures

    def _key(self, text: str) -> dict[str, Any]:
        plain = {"reader": text, "fit": asdict(self.fit) | {"device": None}, **self.key}
        return dict(json.loads(json.dumps(plain)))

    def _trained(self) -> Iterator[Result]:
        """The first seed of all readers, then the next."""
        missing = [
            (text, seed)
            for seed in self.seeds
            for text in self.readers
            if self._read(text, seed) is None
        ]
        if not missing:
            return
        with world(self.fit.device) as processes:
            reading = self.reading(processes.device)
            for text, seed in missing:
                module = self.build(text, seed).to(processes.device)
                yield self._train(module, reading, text, seed)

    def _train(self, module: nn.Module, reading: Reading, text: str, seed: int) -> Result:
        folder = place(self.out, text, seed)
        label = f"{text}, seed {seed}"
        fitted = fit(module, reading, self.fit, seed, folder, label, {**self.key, "reader": text})
        result = Result(
            text,
            seed,
            {split: reading.predict(module, split).tolist() for split in SPLITS},
            fitted.history,
            fitted.step,
            weights(module),
            fitted.seconds,
            fitted.rate,
        )
        reading.keep(module, folder)
        if isinstance(encoder := getattr(module, "encoder", None), Encoder):
            save_encoder(encoder, folder / "encoder.safetensors")
        content = {"key": self._key(text), "result": asdict(result)}
        partial = folder / "result.json.partial"
        partial.write_text(json.dumps(content), "utf-8")
        partial.replace(folder / "result.json")
        return result

    def _found(self) -> list[Result]:
        each = [self._read(text, seed) for text in self.readers for seed in self.seeds]
        return [result for result in each if result is not None]

    def _read(self, text: str, seed: int) -> Result | None:
        path = place(self.out, text, seed) / "result.json"
        try:
            content = json.loads(path.read_text("utf-8"))
            return Result(**content["result"]) if content["key"] == self._key(text) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or damaged: the checkpoint beside it tells

    def _sorted(self, results: Sequence[Result]) -> list[Result]:
        """Baselines first, then in the order of the readers."""
        order = [*(result.reader for result in self.baselines), *self.readers]
        return sorted(results, key=lambda result: (order.index(result.reader), result.seed))

    def _write(self, results: Sequence[Result]) -> tuple[Table, str]:
        figures = table(results, self.scores, self.validation, self.test, self.resamples)
        planned = len(self.readers) * len(self.seeds)
        notes = [*self.notes, f"Made by `{command()}`."]
        text = markdown(figures, self.title, notes, planned)
        plain = {
            "command": command(),
            "key": self.key,
            "fit": asdict(self.fit),
            **asdict(figures),
            "results": [asdict(result) for result in results],
        }
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "report.md").write_text(text, "utf-8")
        (self.out / "report.json").write_text(json.dumps(plain, indent=1), "utf-8")
        return figures, text

    def _draw(self, results: Sequence[Result], echo: Echo) -> None:
        if not find_spec("matplotlib"):
            echo('No pictures: for these, pip install "ngopt[draw]".')
            return
        drawn = self.figures(results)
        save_figures(drawn, self.out)
        if find_spec("tensorboard"):
            with open_writer(self.out / "pictures", 0) as writer:
                for name, figure in drawn.items():
                    writer.add_image(f"4 {name}", figure_image(figure), 0)

    def _show_baselines(self) -> None:
        if not find_spec("tensorboard"):
            return
        for result in self.baselines:
            with open_writer(self.out / "baselines" / result.reader, 0) as writer:
                for split in SPLITS:
                    for number, (name, value) in enumerate(result.history[-1][split].items()):
                        group = "3" if number else "1"
                        for step in (FIRST, LAST):
                            writer.add_scalar(f"{group} {name}/{split}", value, step)


def place(out: Path, text: str, seed: int) -> Path:
    """Folder of a run of a reader, in the folder of all."""
    return out / re.sub(r"[^\w.=+-]+", "_", text) / f"seed-{seed}"
