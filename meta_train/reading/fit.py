"""Training of networks that read networks: batches, steps, evaluations, checkpoints, curves."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from meta_train import checkpoint
from meta_train.board.panel import open_writer
from meta_train.errors import MetaTrainError
from meta_train.outer import warmed_cosine
from meta_train.reading.options import FitOptions, optimizer_of
from meta_train.reading.results import Fitted
from meta_train.reading.scores import Score

SPLITS = ("validation", "test")
"""What networks are measured on: states are chosen by the first."""

EARLY = 10
"""Step of the first checkpoint: a folder that cannot be written to shows soon."""

SHORTEST = 5
"""A run is at least so many times as long as its warm-up, which is cut short otherwise."""

SECONDS = 30.0
"""Between checkpoints, beside those at evaluations."""

FREE = ("device", "minutes")
"""Options that may change when a run goes on."""


class Reading(ABC):
    """What a network that reads networks is to learn.

    Attributes:
        score: what the best state is chosen by, on the validation split.
        examples: number of networks in the training split.
    """

    score: Score
    examples: int

    @abstractmethod
    def loss(self, module: nn.Module, index: Tensor, generator: torch.Generator) -> Tensor:
        """Training loss, 0-dim.

        Args:
            module: the network that reads networks.
            index: numbers of some training examples, `(batch,)`, from 0 to below `examples`.
            generator: of augmentations, on the module's device.
        """

    @abstractmethod
    def evaluate(self, module: nn.Module, split: str) -> Mapping[str, float]:
        """Scores on `validation` or `test`, by name; that of :attr:`score` is among them."""

    @abstractmethod
    def predict(self, module: nn.Module, split: str) -> Tensor:
        """The prediction for each network of a split, `(snapshots,)`, on the CPU."""

    def parts(self, module: nn.Module) -> list[nn.Module]:
        """Parts of the module, whose gradients are shortened by themselves; it is one by default.

        Args:
            module: the network that reads networks.
        """
        return [module]

    def keep(self, module: nn.Module, folder: Path) -> None:
        """Write what is to be shown of a trained module, beside its scores, to a folder."""
        return


def fit(
    module: nn.Module,
    reading: Reading,
    options: FitOptions,
    seed: int,
    folder: Path,
    label: str,
    key: Mapping[str, Any] | None = None,
    on_evaluation: Callable[[], None] | None = None,
) -> Fitted:
    """Train a module, or go on with it if the folder holds a checkpoint.

    A run that was killed and goes on ends, on the same machine, with the same weights to the last
    bit as one that was not (if it is bounded by epochs). Global random numbers are left alone.

    Args:
        module: on its device; afterwards it has the state that is best on the validation split.
        reading: what it learns.
        options: how.
        seed: of batches, dropout and augmentations.
        folder: of the checkpoint and of the curves for TensorBoard.
        label: of the progress bar.
        key: what else the run depends on, as plain data; a run does not go on with another.
        on_evaluation: called after each evaluation.

    Raises:
        MetaTrainError: if there is nothing to learn from, or the folder's run is another one.
    """
    if reading.examples < 1:
        raise MetaTrainError("there are no networks to train on.\n  Make a larger zoo.")
    with checkpoint.undisturbed():
        torch.manual_seed(seed)
        run = _Run(module, reading, options, seed)
        run.resume(folder, dict(key or {}))
        with _writer(folder, run.step) as writer:
            run.go_on(folder, label, writer, on_evaluation or (lambda: None))
        return run.finish()


class _Run:
    """One training run, from step to step."""

    def __init__(self, module: nn.Module, reading: Reading, options: FitOptions, seed: int) -> None:
        self.module, self.reading, self.options = module, reading, options
        self.optimizer = optimizer_of(module, options)
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        device = next(module.parameters()).device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)
        self.step, self.skipped, self.seconds, self.loss = 0, 0, 0.0, 0.0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.key: dict[str, Any] = {"seed": seed, **asdict(options)}

    @property
    def _per_epoch(self) -> int:
        return max(1, self.reading.examples // self.options.batch)

    @property
    def done(self) -> float:
        """Share of the run that is done; 1 or more at the end."""
        if self.options.minutes:
            return self.seconds / (60 * self.options.minutes)
        return self.step / self.steps

    @property
    def steps(self) -> int:
        """Number of steps in all; if time decides, as the speed so far lets expect."""
        if not self.options.minutes:
            return max(1, round(self.options.epochs * self._per_epoch))
        return int(self.step / self.done) if self.done else SHORTEST

    def go_on(
        self, folder: Path, label: str, writer: Any, on_evaluation: Callable[[], None]
    ) -> None:
        saved = time.perf_counter()
        bar = tqdm(total=100, desc=label, unit="%", dynamic_ncols=True, leave=False)
        with bar:
            while self.done < 1 or not self.history:
                if self.done >= len(self.history) / self.options.evaluations:
                    self._evaluate(writer)
                    self._save(folder)
                    on_evaluation()
                if self.done < 1:
                    self._step(writer)
                if self.step == EARLY or time.perf_counter() - saved > SECONDS:
                    self._save(folder)
                    saved = time.perf_counter()
                bar.update(min(100, int(100 * self.done)) - bar.n)
                bar.set_postfix_str(self._postfix(), refresh=False)
            if self.history[-1]["step"] < self.step:
                self._evaluate(writer)
                self._save(folder)
                on_evaluation()

    def finish(self) -> Fitted:
        self.module.load_state_dict(self.best["state"])
        self.module.eval()
        read = self.step * min(self.options.batch, self.reading.examples)
        rate = read / self.seconds if self.seconds else 0.0
        best = (self.best["step"], self.best["score"])
        return Fitted(*best, self.history, self.seconds, rate, self.skipped)

    def _step(self, writer: Any) -> None:
        since = time.perf_counter()
        self.module.train()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            warmup = min(self.options.warmup, self.steps // SHORTEST)
            final = self.options.final
            group["lr"] = warmed_cosine(rate, self.step, self.steps, warmup, final)
        loss = self.reading.loss(self.module, self._batch(), self.generator)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norms = [
            nn.utils.clip_grad_norm_(part.parameters(), self.options.clip)
            for part in self.reading.parts(self.module)
        ]
        norm = torch.stack(norms).norm()
        self.loss = float(loss.detach())
        if norm.isfinite():
            self.optimizer.step()
        else:
            self.skipped += 1
        self.step += 1
        self.seconds += time.perf_counter() - since
        if writer is not None and self.step % 10 == 0:
            writer.add_scalar("2 training/loss", self.loss, self.step)
            writer.add_scalar("2 training/gradient norm", float(norm), self.step)

    def _batch(self) -> Tensor:
        """Next examples of an epoch, which reads each at most once, in a new order each time."""
        size = min(self.options.batch, self.reading.examples)
        if len(self.order) < size:
            device = self.generator.device
            self.order = torch.randperm(
                self.reading.examples, generator=self.generator, device=device
            )
        batch, self.order = self.order[:size], self.order[size:]
        return batch

    def _generators(self) -> dict[str, torch.Generator]:
        """Generators that parts of the module draw from in training."""
        found = {n: getattr(part, "generator", None) for n, part in self.module.named_modules()}
        return {name: g for name, g in found.items() if isinstance(g, torch.Generator)}

    def _evaluate(self, writer: Any) -> None:
        self.module.eval()
        with torch.no_grad():
            scores = {split: dict(self.reading.evaluate(self.module, split)) for split in SPLITS}
        loss = self.loss if self.step else None
        entry = {"step": self.step, "epoch": self.step / self._per_epoch, "loss": loss}
        self.history.append({**entry, **scores})
        name = self.reading.score.name
        found = scores["validation"][name]
        if not self.best or self.reading.score.better(found, self.best["score"]):
            state = {key: t.detach().cpu().clone() for key, t in self.module.state_dict().items()}
            self.best = {"step": self.step, "score": found, "state": state}
        if writer is not None:
            for split, values in scores.items():
                for key, value in values.items():
                    group = "1" if key == name else "3"
                    writer.add_scalar(f"{group} {key}/{split}", value, self.step)
            writer.flush()

    def _postfix(self) -> str:
        text = f"loss {self.loss:.4f}"
        if self.history:
            name = self.reading.score.name
            text += f", {name} on validation {self.history[-1]['validation'][name]:.4f}"
        return f"{text}, {self.skipped} steps skipped" if self.skipped else text

    def resume(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.key |= json.loads(json.dumps(key, default=str))
        found = checkpoint.latest(folder)
        if found is None:
            return
        _, state = found
        checkpoint.check_unchanged(state["key"], self.key, FREE)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        for name, generator in self._generators().items():
            generator.set_state(state["generators"][name])
        self.order = state["order"].to(self.generator.device)
        self.history, self.best = state["history"], state["best"]
        self.step, self.skipped, self.seconds, self.loss = state["counts"]
        checkpoint.restore_random_state(state["random"])

    def _save(self, folder: Path) -> None:
        state = {
            "key": self.key,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "generators": {name: g.get_state() for name, g in self._generators().items()},
            "order": self.order,
            "history": deepcopy(self.history),
            "best": self.best,
            "counts": (self.step, self.skipped, self.seconds, self.loss),
            "random": checkpoint.random_state(),
        }
        checkpoint.save(folder, self.step, state, keep=2)


@contextmanager
def _writer(folder: Path, step: int) -> Iterator[Any]:
    """Curves of a run; None without tensorboard."""
    if not find_spec("tensorboard"):
        yield None
        return
    with open_writer(folder, step + 1 if step else 0) as writer:
        yield writer
