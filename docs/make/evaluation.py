"""An evaluation: each rule beside the tuned opponent on each task, as tables of docs/results.md."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from docs.make.page import text_table
from meta_train.baselines import FINALISTS
from meta_train.comparison import WORSE, Comparison, Row, interquartile_mean, summaries
from meta_train.table import table_lines

Json: TypeAlias = Mapping[str, Any]

CHOSEN = "default"
"""The rule that the page is about; if it took no part, the first that did."""

CRITERIA = {"train": "final training loss", "held_out": "held-out loss"}

FEW = 6
"""Number of tasks that are named in a cell, at most."""

PANELS = 6
"""Number of tasks whose curves are drawn."""


@dataclass(frozen=True)
class Result:
    """A contestant beside the reference on one task.

    Args:
        row: the contestant's.
        reference: the reference's.
    """

    row: Row
    reference: Row

    @property
    def group(self) -> str:
        """Of the task; empty if it has none."""
        return self.row.suite

    @property
    def ratio(self) -> float:
        """Final training loss in units of the reference's."""
        return self.row.train / self.reference.train

    @property
    def test_ratio(self) -> float:
        """Test loss in units of the reference's."""
        return self.row.test / self.reference.test

    @property
    def lost(self) -> int:
        """Number of runs that have diverged or stalled."""
        return self.row.diverged + self.row.stalled


Results: TypeAlias = list[Result]


def comparison_of(evaluation: Json) -> Comparison:
    """Make the comparison, without its curves, of a kept evaluation."""
    rows = tuple(map(Row.of, evaluation["rows"]))
    facts = {name: evaluation[name] for name in ("reference", "criterion", "planned")}
    return Comparison(**facts, rows=rows, summaries=summaries(rows), curves={})


def results_of(comparison: Comparison) -> dict[str, Results]:
    """Results of each contestant but the reference, in the order of the tasks."""
    rows = comparison.rows
    of_reference = [row for row in rows if row.contestant == comparison.reference]
    references = {(row.suite, row.task): row for row in of_reference}
    found: dict[str, Results] = {}
    for row in rows:
        if row.contestant != comparison.reference:
            result = Result(row, references[row.suite, row.task])
            found.setdefault(row.contestant, []).append(result)
    return found


def chosen(evaluation: Json, found: Mapping[str, Results]) -> tuple[str, Results]:
    """Name and results of the rule that the page is about; empty if there are only opponents."""
    rules = [name for name in found if name not in evaluation["opponents"]]
    name = CHOSEN if CHOSEN in rules else next(iter(rules), "")
    return name, found.get(name, [])


def short_names(tasks: Sequence[str]) -> dict[str, str]:
    """Names without the options that all tasks of the same family have in common, but the data.

    >>> short_names(["mlp(data=digits, width=8, depth=1)", "mlp(data=digits, width=9, depth=1)"])
    {'mlp(data=digits, width=8, depth=1)': 'mlp digits width=8', \
'mlp(data=digits, width=9, depth=1)': 'mlp digits width=9'}
    """
    parsed = {}
    for task in tasks:
        family, _, inside = task.removesuffix(")").partition("(")
        parts = re.split(r", (?=\w+=)", inside) if inside else []
        parsed[task] = family, dict(part.partition("=")[::2] for part in parts)
    families = Counter(family for family, _ in parsed.values())
    shared = Counter((family, pair) for family, own in parsed.values() for pair in own.items())
    names = {}
    for task, (family, own) in parsed.items():
        differing = [p for p in own.items() if shared[family, p] < families[family]]
        parts = [f"{key}={value}" for key, value in differing if key != "data"]
        names[task] = " ".join([family, *([own["data"]] if "data" in own else []), *parts])
    return names


def placed(name: str, group: str) -> str:
    """A name with its group, if it has one."""
    return f"{name} ({group})" if group else name


def blocks(content: Json) -> dict[str, list[str]]:
    """What the page says of an evaluation."""
    comparison = comparison_of(content)
    found, names = results_of(comparison), short_names([row.task for row in comparison.rows])
    rule, results = chosen(content, found)
    listed = [placed(names[task], group) for group, task in content["pictured"]]
    return {
        "groups": group_lines(comparison, found),
        "verdicts": verdict_lines(rule, results, names),
        "conditions": condition_lines(comparison, content),
        "tasks": task_lines(found, names, rule),
        "curves": [f"From the fastest to the slowest task: {'; '.join(listed)}."] if listed else [],
    }


def group_lines(comparison: Comparison, found: Mapping[str, Results]) -> list[str]:
    """A table over the groups of tasks."""
    rows = []
    for summary in comparison.summaries:
        own = [r for r in found.get(summary.contestant, []) if r.group == summary.suite]
        losses = [
            f"{interquartile_mean(ratios):.3g}" if ratios else "1"
            for ratios in ([r.ratio for r in own], [r.test_ratio for r in own])
        ]
        accuracy = "-" if summary.accuracy is None else f"{100 * summary.accuracy:.1f} %"
        counts = f"{summary.worse} of {summary.tasks}", summary.stalled, summary.diverged
        who = summary.suite or "none", f"`{summary.contestant}`", f"{summary.speed_up:.2f}"
        rows.append([*who, *losses, accuracy, *map(str, counts)])
    head = ["tasks", "", "speed-up", "train loss", "test loss", "test accuracy"]
    done = len({(result.group, result.row.task) for own in found.values() for result in own})
    unfinished = f"**Not finished: {done} of {comparison.planned} tasks.**"
    return [
        *table_lines([*head, "worse", "stalled", "diverged"], rows),
        *(["", unfinished] if 0 < done < comparison.planned else []),
    ]


def verdict_lines(rule: str, results: Results, names: Mapping[str, str]) -> list[str]:
    """On how many tasks a rule is not better or fails, and on which if they are few."""
    verdicts = {
        "needs no fewer steps than the opponent to its final loss": [
            r for r in results if r.row.speed_up <= 1
        ],
        "ends above the opponent": [r for r in results if r.ratio > 1],
        "ends more than 2 % above the opponent": [r for r in results if r.row.worse],
        "diverges or stalls": [r for r in results if r.lost],
        "trains no worse, but has a test loss more than 2 % above the opponent's": [
            r for r in results if r.test_ratio > WORSE and not r.row.worse
        ],
    }
    rows = []
    for verdict, which in verdicts.items():
        tasks = "; ".join(placed(names[result.row.task], result.group) for result in which)
        count = f"{len(which)}/{len(results)}"
        rows.append([verdict, count, tasks if len(which) <= FEW else ""])
    return text_table([f"`{rule}` ...", "tasks", "which"], rows) if results else []


def condition_lines(comparison: Comparison, content: Json) -> list[str]:
    """How an evaluation was made."""
    reference, low, high = comparison.reference, content["lrs"][0], content["lrs"][-1]
    edges = sum(row.at_edge for row in comparison.rows if row.contestant == reference)
    own_rate = "the one it was meta-trained at" if content["lr"] is None else str(content["lr"])
    screen = f"all on {content['screen']} start(s), the best {FINALISTS} of each schedule on all"
    rows = [
        ["opponent", f"`{reference}`, the best of {content['settings']} settings for each task"],
        ["chosen by", CRITERIA.get(comparison.criterion, f"held-out {comparison.criterion}")],
        ["learning rates of the opponent", f"{low:g} to {high:g}, constant or along a cosine"],
        ["tried on", screen if content["screen"] else "all starts"],
        ["best at the edge of what was tried", f"{edges} task(s)"],
        ["learning rate of a rule", f"{own_rate}, constant"],
    ]
    return text_table(["", "here"], rows)


def task_lines(found: Mapping[str, Results], names: Mapping[str, str], rule: str) -> list[str]:
    """A table of each group, with a line for each task.

    Args:
        found: results of each contestant, all on the same tasks.
        names: short ones of the tasks.
        rule: a contestant; its fastest tasks come first.
    """
    lines = []
    head = ["task", "steps", "opponent", *(f"`{name}`" for name in found)]
    tasks = list(zip(*found.values(), strict=True))
    for group, in_group in groupby(tasks, lambda of_task: of_task[0].group):
        rows = []
        for of_task in sorted(in_group, key=lambda of_task: _speed(of_task, rule), reverse=True):
            row, reference = of_task[0].row, of_task[0].reference
            theirs = f"{reference.train:.4g}{_percent(reference.accuracy)}"
            rows.append([names[row.task], f"{row.budget.steps:,}", theirs, *map(_cell, of_task)])
        lines += ["", f"### {group or 'Of no group'}", "", *table_lines(head, rows)]
    return lines


def _speed(of_task: Sequence[Result], rule: str) -> float:
    return next((r.row.speed_up for r in of_task if r.row.contestant == rule), 0.0)


def _cell(result: Result) -> str:
    ratio = f"{result.ratio:.3f}" if result.ratio < 10 else f"{result.ratio:.3g}"
    worse = f"**{ratio}**" if result.row.worse else ratio
    accuracy = _percent(result.row.accuracy)
    return f"{result.row.speed_up:.2f} · {worse}{accuracy}" + " †" * (result.lost > 0)


def _percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f" · {100 * accuracy:.1f}"


def pictured(evaluation: Json) -> list[list[str]]:
    """Group and name of some tasks, evenly from the fastest to the slowest of the chosen rule."""
    rule, results = chosen(evaluation, results_of(comparison_of(evaluation)))
    ordered = sorted(results, key=lambda result: (-result.row.speed_up, result.ratio))
    count = min(PANELS, len(ordered)) if rule else 0
    places = [round(n * (len(ordered) - 1) / max(1, count - 1)) for n in range(count)]
    return [[ordered[place].group, ordered[place].row.task] for place in places]
