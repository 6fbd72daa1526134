"""Pieces of an experiment: a method that is meta-trained from one seed, and figures of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meta_train import checkpoint
from meta_train.board.options import BoardOptions
from meta_train.config import Config
from meta_train.errors import MetaTrainError
from meta_train.provenance import command
from meta_train.rules import rule_in
from meta_train.spec import parse
from meta_train.train import meta_train
from ngopt.rules.library import fingerprint
from ngopt.rules.rule import Rule

CHECKPOINT_EVERY = 10
"""Number of outer steps, some of which take most of a minute."""


@dataclass(frozen=True)
class Piece:
    """A method, meta-trained from one seed.

    Args:
        method: name.
        seed: of theta, tasks and batches.
        config: of the meta-training; its folder is the piece's own.
    """

    method: str
    seed: int
    config: Config

    @classmethod
    def of(cls, method: str, seed: int, config: Config, folder: Path, device: str) -> "Piece":
        """Make a piece of a configuration.

        Args:
            method: name.
            seed: of theta, tasks and batches.
            config: of the meta-training; its own seed, folder, device, checkpoints and board do not
                count.
            folder: of all pieces.
            device: of the meta-training.
        """
        own = replace(
            config,
            seed=seed,
            rule=with_options(config.rule, {"seed": seed}),
            folder=folder / "runs" / f"{method}-{seed}",
            device=device,
            checkpoint_every=CHECKPOINT_EVERY,
            board=BoardOptions(every=0),
        )
        return cls(method, seed, own)

    def meta_train(self) -> None:
        """Meta-train, go on with it, or see that it is done."""
        done = meta_train(self.config).step_number
        if done != self.config.steps:
            raise MetaTrainError(
                f"the run in {self.config.folder} has {done} outer steps, more than the "
                f"{self.config.steps} asked for.\n  Use another folder, or remove the run."
            )

    def finished(self) -> tuple[Rule, dict[str, Any]] | None:
        """The rule after the last outer step and what there is to know of it; None before that."""
        found = checkpoint.latest(self.config.folder)
        if found is None or found[0] != self.config.steps:
            return None
        state = found[1]
        rule = rule_in(state)
        facts = {
            "method": self.method,
            "seed": self.seed,
            "rule": self.config.rule,
            "weights": sum(weight.numel() for weight in rule.parameters()),
            "outer_steps": self.config.steps,
            **state["cost"],
        }
        return rule, facts


def with_options(text: str, options: Mapping[str, Any]) -> str:
    """Text of a rule with some of its options changed; of a dict, only the given keys.

    >>> with_options("MatrixGNN:rounds=1,width=8", {"rounds": 0, "positions": ()})
    'MatrixGNN:rounds=0,width=8,positions=()'
    """
    name, before = parse(text)
    changed = dict(before)
    for key, value in options.items():
        changed[key] = {**before.get(key, {}), **value} if isinstance(value, Mapping) else value
    return f"{name}:" + ",".join(f"{key}={_written(value)}" for key, value in changed.items())


def _written(value: Any) -> str:
    if isinstance(value, tuple) and len(value) > 1:
        return "|".join(map(str, value))
    return str(value)


class Figures:
    """Figures of a contestant in a file, from which tables are made.

    Args:
        path: of the file; figures in it that another theta gave are forgotten.
        rule: the contestant.
        facts: plain data to keep beside the figures.
    """

    def __init__(self, path: Path, rule: Rule, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.content = {**facts, "theta": fingerprint(rule.state_dict()), "figures": {}}
        if path.is_file():
            before = json.loads(path.read_text())
            if before["theta"] == self.content["theta"]:
                self.content["figures"] = before["figures"]

    def add(self, key: str, value: Any) -> None:
        """Keep a figure, as plain data."""
        self.content["figures"][key] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.content, indent=1))
        partial.replace(self.path)


def write(out: Path, content: Mapping[str, Any], text: str) -> None:
    """Write a result, and show it.

    Args:
        out: path without ending; `.json` and `.md` are added.
        content: plain data for the JSON file; numbers that are not finite become null.
        text: Markdown.
    """
    plain = json.dumps({"command": command(), **content}, default=str)
    finite = json.loads(plain, parse_constant=lambda constant: None)
    out.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{out}.json").write_text(json.dumps(finite, indent=1, allow_nan=False))
    Path(f"{out}.md").write_text(text, encoding="utf-8")
    print(f"{text}\nWritten to {out}.json and {out}.md.")


def collected(folder: Path) -> list[dict[str, Any]]:
    """Contents of all files of figures in a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
