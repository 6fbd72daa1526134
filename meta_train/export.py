"""The command `export`: the rule of a run as a file for NeuralGraphOptimizer, with its card."""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tqdm import tqdm

from meta_train.comparison import renamed
from meta_train.errors import MetaTrainError
from meta_train.provenance import command, commit
from meta_train.rules import newest, rule_in, rule_of
from meta_train.shared_files import usable_folder
from ngopt.rules.cards import card_path
from ngopt.rules.library import fingerprint, rule_classes, save_rule
from ngopt.rules.rule import Rule

RESULTS = ("command", "reference", "criterion", "planned")
"""What the card takes from an evaluation as it is; `planned` is the number of tasks it was to have.

An evaluation by another version may lack some of it, and some of the figures."""

FIGURES = (
    *("suite", "task", "budget", "setting", "train", "test", "accuracy"),
    *("speed_up", "worse", "stalled", "diverged"),
)
"""What it takes of each task."""

OPPOSED = ("train", "test", "accuracy")
"""What it takes of the tuned reference on each task."""


@dataclass(frozen=True)
class ExportOptions:
    """Write the rule of a run to a file, and a card that says how it came about beside it.

    The file is for `NeuralGraphOptimizer(model, rule="my_rule.safetensors")`.

    Args:
        run: the folder of the run, whose newest theta is taken; or a class of rules with options,
            such as `MatrixGNN:graph_context=False`, for a rule as it is before meta-training.
        out: the file, ending in `.safetensors`; the card has the same name, ending in `.json`.
        results: `evaluation.json` of `python -m meta_train evaluate`, for the card.
        contestant: name of the rule in `results`; by default that of the run.
        weaknesses: what is known to go wrong with the rule, for the card, in sentences.
        imports: modules to import first, which define rules of your own.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    results: Path | None = None
    contestant: str | None = None
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
    results = None
    if options.results is not None:
        results = results_of(options.results, options.contestant or str(Path(options.run)))
    card = export(options.run, options.out, results, options.weaknesses)
    echo(
        f"Wrote {options.out} ({card['rule']}, {card['weights']} weights, after "
        f"{card['cost']['outer_steps']} outer steps) and its card {card_path(options.out)}.\n"
        f'Use it:  ngopt.NeuralGraphOptimizer(model, rule="{options.out}")'
    )


def export(
    run: str | Path,
    out: Path,
    results: Mapping[str, Any] | None = None,
    weaknesses: Sequence[str] = (),
) -> dict[str, Any]:
    """Write a rule as `.safetensors`, and its card beside it as JSON.

    Args:
        run: folder of a run, whose newest rule it is; or a class of rules with options.
        out: the file; its folder is made if there is none.
        results: from :func:`results_of`, if there are any.
        weaknesses: what is known to go wrong with the rule.

    Returns:
        The card.

    Raises:
        MetaTrainError: if there is no checkpoint, or the class refuses the options.
        RuleError: if `out` has another ending.
    """
    untrained = str(run).partition(":")[0] in rule_classes()
    rule, history = _untrained(str(run)) if untrained else _of_run(Path(run))
    card = {
        "rule": type(rule).__name__,
        "config": rule.config,
        "lr": rule.lr,
        "weights": sum(weight.numel() for weight in rule.parameters()),
        "sha256": fingerprint(rule.state_dict()),
        "torch": torch.__version__,
        **history,
        "results": results,
        "known_weaknesses": list(weaknesses),
    }
    usable_folder(out.parent)
    save_rule(rule, out)
    card_path(out).write_text(json.dumps(card, indent=1) + "\n")
    return card


def _of_run(folder: Path) -> tuple[Rule, dict[str, Any]]:
    """The newest rule of a run, and what its card says on how it came about."""
    state = newest(folder)
    config = json.loads(state["config"])
    return rule_in(state), {
        "command": state["command"],
        "commit": state.get("commit", commit()),
        "seed": config["seed"],
        "tasks": config["families"],
        "cost": {"outer_steps": state["step"], **state["cost"]},
        "meta_training": config,
    }


def _untrained(text: str) -> tuple[Rule, dict[str, Any]]:
    """The same for a class of rules with options."""
    rule = rule_of(text)
    return rule, {
        "command": command(),
        "commit": commit(),
        "seed": rule.config.get("seed"),
        "tasks": [],
        "cost": {"outer_steps": 0, "inner_steps": 0, "seconds": 0.0},
        "meta_training": None,
    }


def results_of(path: Path, contestant: str) -> dict[str, Any]:
    """Shorten an evaluation to what a card says: one contestant beside the tuned reference.

    Args:
        path: an `evaluation.json`.
        contestant: name of the rule there.

    Returns:
        Plain data: how it was evaluated, the `summaries` of both, and one entry per task.

    Raises:
        MetaTrainError: if the file is no evaluation, or the contestant took no part in it.
    """
    try:
        content = json.loads(path.read_text())
        names = list(dict.fromkeys(row["contestant"] for row in content["rows"]))
        results = _beside_reference(content, contestant) if contestant in names else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MetaTrainError(
            f"`{path}` is no evaluation that could go on a card ({error!r}).\n"
            "  Give the evaluation.json of `python -m meta_train evaluate`."
        ) from error
    if results is None:
        raise MetaTrainError(
            f"`{contestant}` took no part in the evaluation `{path}`.\n"
            f"  Give the name it had there as --contestant; there were: {', '.join(names)}."
        )
    return results


def _beside_reference(content: Mapping[str, Any], contestant: str) -> dict[str, Any]:
    both = (content["reference"], contestant)
    # Each contestant has one row per task, in the same order.
    rows = list(map(renamed, content["rows"]))
    opposed, own = ([row for row in rows if row["contestant"] == who] for who in both)
    return {
        **{name: content[name] for name in RESULTS if name in content},
        "contestant": contestant,
        "summaries": [
            entry for entry in map(renamed, content["summaries"]) if entry["contestant"] in both
        ],
        "tasks": [
            {name: row[name] for name in FIGURES if name in row}
            | {f"reference_{name}": reference[name] for name in OPPOSED}
            for row, reference in zip(own, opposed, strict=True)
        ],
    }
