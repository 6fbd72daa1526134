"""How much there is to gain from each number that theta could decide, before anything is learned.

    python -m benchmarks.headroom --out runs/headroom
    python -m benchmarks.headroom --controls size decay --tasks "mlp:width=32,depth=2" --steps 400

For each control, a fresh rule trains the tasks of *validation* with several values of it, on the
same problems and batches. A table shows for each task the best value and its gain: by how much the
log of the training loss, in the last quarter of the steps, is below that of the rule as it is. The
last column is what could be foreseen: the mean gain of taking on each task the value that is best
on all others. Results are kept in the folder, task by task, and are not computed again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meta_train.estimators.activity_pes import PERTURBATION
from meta_train.meta_loss import SMALL
from meta_train.rules import rule_of
from meta_train.suites import suite
from meta_train.table import table_lines
from meta_train.tasks.family import family_of
from meta_train.tasks.task import Task
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from ngopt.rules.matrix_gnn import OUTPUTS, MatrixGNN
from ngopt.rules.rule import Rule

RULE = "MatrixGNN:context_every=8,square_dtype=bfloat16,graph_context=False,learned_slow=True"
OUTPUT_VALUES = {
    "size": (0, (-0.4, -0.2, 0.2, 0.4)),
    "decay": (1, (-0.5, 0.3, 0.6, 1.2, 3.0)),
    "slow": (2, (-0.36, 0.36, 0.85)),
}
"""Raw outputs for bundles, by their place, and the values that all bundles get."""

BASE_UPDATE: dict[str, tuple[float, ...]] = {
    "nesterov": (0.0, 2.0),
    "orthogonal": (0, 1, 3),
    "age_power": (0.4, 0.6),
    "late_power": (0.0, 1.0),
}
"""Constants of the base update, and the values that are tried."""


def losses(
    rule: Rule, task: Task, steps: int, problems: int, outputs: Sequence[tuple[int, float]]
) -> Tensor:
    """Log of the loss in the last quarter of the steps, in units of the first, of each problem.

    Args:
        rule: trains the models.
        task: the task.
        steps: number of steps.
        problems: number of runs for each choice of outputs.
        outputs: place and value of the output that is changed, for each choice.

    Returns:
        `(choices, problems)`.
    """
    unroll = Stacked(rule, UnrollOptions(looks="due"))
    copies = len(outputs)
    runs = unroll.begin(task, problems, torch.Generator().manual_seed(0), copies)
    theta = {
        name: weight.detach().expand(len(runs), *weight.shape)
        for name, weight in rule.named_parameters()
    }
    raw = torch.zeros(copies, 1, OUTPUTS + rule.config["learned_slow"])
    for number, (place, value) in enumerate(outputs):
        raw[number, 0, place] = value
    theta[PERTURBATION] = raw.repeat_interleave(problems, 0)
    with torch.no_grad():
        found = unroll.advance(runs, steps, theta, made=0).losses / runs.unit
    last = found[-max(1, steps // 4) :].clamp(SMALL, 1 / SMALL)
    return torch.log(last).mean(0).view(copies, problems)


def of_task(
    text: str, rule: str, steps: int, problems: int, controls: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Difference of each value of each control to the rule as it is, mean and standard error."""
    task = family_of(text).sample(torch.Generator().manual_seed(0))
    choices = [
        (name, place, value)
        for name, (place, values) in OUTPUT_VALUES.items()
        for value in values
        if name in controls
    ]
    places = [(0, 0.0), *((place, value) for _, place, value in choices)]
    base, *others = losses(rule_of(rule), task, steps, problems, places)
    found: dict[str, dict[str, list[float]]] = {}
    for (name, _, value), other in zip(choices, others, strict=True):
        found.setdefault(name, {})[str(value)] = difference(other, base)
    for name in [name for name in BASE_UPDATE if name in controls]:
        for value in BASE_UPDATE[name]:
            (other,) = losses(changed(rule, name, value), task, steps, problems, [(0, 0.0)])
            found.setdefault(name, {})[str(value)] = difference(other, base)
    return found


def changed(rule: str, name: str, value: float) -> Rule:
    """A rule with another value of one constant of the base update."""
    config = rule_of(rule).config
    return MatrixGNN(**config | {"base_update": config["base_update"] | {name: value}})


def difference(other: Tensor, base: Tensor) -> list[float]:
    """Mean and standard error of the differences over problems."""
    gaps = other - base
    return [float(gaps.mean()), float(gaps.std() / len(gaps) ** 0.5)]


def table(found: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> list[str]:
    """Lines of the table.

    Args:
        found: by task, control and value.
    """
    rows = []
    for control in next(iter(found.values())):
        means = {
            task: {"as it is": 0.0} | {value: own[0] for value, own in of[control].items()}
            for task, of in found.items()
        }
        cells, foreseen = [], []
        for task, own in means.items():
            value = min(own, key=own.__getitem__)
            error = found[task][control].get(value, (0.0, 0.0))[1]
            cells.append(f"{value}: {own[value]:+.3f} ± {error:.3f}" if own[value] else "0")
            others = [other for name, other in means.items() if name != task]
            chosen = min(own, key=lambda v: sum(other[v] for other in others))
            foreseen.append(own[chosen])
        rows.append([control, *cells, f"{sum(foreseen) / len(foreseen):+.3f}"])
    names = [f"{number}. {task.partition(':')[0]}" for number, task in enumerate(found, 1)]
    return table_lines(["control", *names, "foreseen"], rows)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rule", default=RULE)
    tasks = [entry.family for entry in suite("validation") if entry.steps < 1000]
    parser.add_argument("--tasks", nargs="+", default=tasks)
    controls = [*OUTPUT_VALUES, *BASE_UPDATE]
    parser.add_argument("--controls", nargs="+", default=controls, choices=controls)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/headroom"))
    options = parser.parse_args()
    if "slow" in options.controls and not rule_of(options.rule).config["learned_slow"]:
        parser.error(f"{options.rule} has no output `slow`. Give it learned_slow=True.")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "headroom.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    keys = {
        text: f"{text} | {options.rule} | {options.steps} | {options.problems}"
        for text in options.tasks
    }
    for text, key in keys.items():
        missing = [name for name in options.controls if name not in known.get(key, {})]
        if missing:
            new = of_task(text, options.rule, options.steps, options.problems, missing)
            known[key] = known.get(key, {}) | new
            path.write_text(json.dumps(known, indent=1))
    found = {
        text: {name: known[key][name] for name in options.controls} for text, key in keys.items()
    }
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
