"""The command `export`: the rule of a run as a file for NeuralGraphOptimizer, with its card."""

import importlib
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tqdm import tqdm

from meta_train.errors import MetaTrainError
from meta_train.rules import newest, rule_in
from ngopt.rules.library import fingerprint, save_rule

SOURCE = Path(__file__).resolve().parent.parent

RESULTS = ("command", "reference", "budget", "criterion", "summaries", "rows")
"""What the card takes from an evaluation."""


@dataclass(frozen=True)
class ExportOptions:
    """Write the rule of a run to a file, and a card that says how it came about beside it.

    The file is for `NeuralGraphOptimizer(model, rule="my_rule.safetensors")`.

    Args:
        folder: of the run, whose newest theta is taken.
        out: the file, ending in `.safetensors`; the card has the same name, ending in `.json`.
        results: `evaluation.json` of `python -m meta_train evaluate`, for the card.
        weaknesses: what is known to go wrong with the rule, for the card, in sentences.
        imports: modules to import first, which define rules of your own.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    results: Path | None = None
    weaknesses: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


def run_export(options: ExportOptions, echo: Callable[[str], None] = tqdm.write) -> None:
    """Export, and say how to go on.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.
    """
    for module in options.imports:
        importlib.import_module(module)
    card = export(options.folder, options.out, options.results, options.weaknesses)
    echo(
        f"Wrote {options.out} ({card['rule']}, {card['weights']} weights, after "
        f"{card['cost']['outer_steps']} outer steps) and its card {card_path(options.out)}.\n"
        f'Use it:  ngopt.NeuralGraphOptimizer(model, rule="{options.out}")'
    )


def export(
    folder: Path, out: Path, results: Path | None = None, weaknesses: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the newest rule of a run as `.safetensors`, and its card beside it as JSON.

    Args:
        folder: of the run.
        out: the file; its folder is made if there is none.
        results: an `evaluation.json`, if there is one.
        weaknesses: what is known to go wrong with the rule.

    Returns:
        The card.

    Raises:
        MetaTrainError: if there is no checkpoint, or `results` is no evaluation.
        RuleError: if `out` has another ending.
    """
    state = newest(folder)
    rule = rule_in(state)
    config = json.loads(state["config"])
    card = {
        "rule": type(rule).__name__,
        "config": rule.config,
        "lr": rule.lr,
        "weights": sum(weight.numel() for weight in rule.parameters()),
        "sha256": fingerprint(rule.state_dict()),
        "command": state["command"],
        "commit": commit(),
        "torch": torch.__version__,
        "seed": config["seed"],
        "tasks": config["families"],
        "cost": {"outer_steps": state["step"], **state["cost"]},
        "meta_training": config,
        "results": None if results is None else _results(results),
        "known_weaknesses": list(weaknesses),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_rule(rule, out)
    card_path(out).write_text(json.dumps(card, indent=1) + "\n")
    return card


def card_path(path: Path) -> Path:
    """Where the card of a rule's file is."""
    return path.with_suffix(".json")


def commit(source: Path = SOURCE) -> str | None:
    """The commit of a source tree, `-dirty` if it was changed since; None outside of git."""
    # The package may be installed somewhere in another project's repository.
    if not (source / ".git").exists():
        return None
    describe = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        # No tag is called `-`, so what comes back is always a hash.
        done = subprocess.run([*describe, "--match=-"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _results(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        return {name: content[name] for name in RESULTS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MetaTrainError(
            f"`{path}` is no evaluation that could go on a card ({error!r}).\n"
            "  Give the evaluation.json of `python -m meta_train evaluate`."
        ) from error
