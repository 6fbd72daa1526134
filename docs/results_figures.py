"""What docs/results.md is made of: results beside tuned AdamW, and the goals of the project."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from meta_train.comparison import Comparison, Row, interquartile_mean, summaries

CHOSEN = "default"
"""The rule that the page is about; if it took no part, the first that did."""


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
Verdict: TypeAlias = tuple[str, bool, bool]
"""A figure as text, whether it is at the floor, and whether it is at the goal."""


def comparison_of(evaluation: Mapping[str, Any]) -> Comparison:
    """Make the comparison, without its curves, of a compact evaluation."""
    rows = tuple(map(Row.of, evaluation["rows"]))
    facts = {name: evaluation[name] for name in ("reference", "criterion", "planned")}
    return Comparison(**facts, rows=rows, summaries=summaries(rows), curves={})


def results_of(comparison: Comparison) -> dict[str, Results]:
    """Results of each contestant but the reference, in the order of the tasks."""
    references = {
        (row.suite, row.task): row
        for row in comparison.rows
        if row.contestant == comparison.reference
    }
    found: dict[str, Results] = {}
    for row in comparison.rows:
        if row.contestant != comparison.reference:
            result = Result(row, references[row.suite, row.task])
            found.setdefault(row.contestant, []).append(result)
    return found


def chosen(names: Sequence[str], opponents: Sequence[str]) -> str | None:
    """Name of the rule that the page is about; None if there are only opponents."""
    rules = [name for name in names if name not in opponents]
    return CHOSEN if CHOSEN in rules else next(iter(rules), None)


def options_of(task: str) -> tuple[str, dict[str, str]]:
    """Family and options of the name of a task.

    >>> options_of("mlp(data=digits, width=8)")
    ('mlp', {'data': 'digits', 'width': '8'})
    """
    family, _, inside = task.removesuffix(")").partition("(")
    parts = re.split(r", (?=\w+=)", inside) if inside else []
    return family, dict(part.partition("=")[::2] for part in parts)


def short_names(tasks: Sequence[str]) -> dict[str, str]:
    """Names without the options that all tasks of the same family have in common, but the data.

    >>> short_names(["mlp(data=digits, width=8, depth=1)", "mlp(data=digits, width=9, depth=1)"])
    {'mlp(data=digits, width=8, depth=1)': 'mlp digits width=8', \
'mlp(data=digits, width=9, depth=1)': 'mlp digits width=9'}
    """
    parsed = {task: options_of(task) for task in dict.fromkeys(tasks)}
    families = Counter(family for family, _ in parsed.values())
    shared = Counter((family, pair) for family, own in parsed.values() for pair in own.items())
    names = {}
    for task, (family, own) in parsed.items():
        differing = [p for p in own.items() if shared[family, p] < families[family]]
        parts = [f"{key}={value}" for key, value in differing if key != "data"]
        names[task] = " ".join([family, *([own["data"]] if "data" in own else []), *parts])
    return names


def placed(name: str, suite: str) -> str:
    """A name with its suite, if it has one."""
    return f"{name} ({suite})" if suite else name


@dataclass(frozen=True)
class Goal:
    """A figure that the project wants to reach.

    Args:
        name: what is measured.
        floor: the least that is wanted, in words.
        goal: what is aimed at, in words.
        counts: whether a result counts.
        judge: gives the verdict on the results that count.
    """

    name: str
    floor: str
    goal: str
    counts: Callable[[Result], bool]
    judge: Callable[[Results], Verdict]

    def cell(self, results: Results) -> str:
        """The figure of a contestant and what has been reached."""
        counted = [result for result in results if self.counts(result)]
        if not counted:
            return "not measured"
        text, floor, goal = self.judge(counted)
        if floor and goal:
            return f"**{text}**, goal"
        return f"{text}, {'floor' if floor else 'missed'}"


def _in(suite: str) -> Callable[[Result], bool]:
    return lambda result: result.row.suite == suite


def _net(data: str, size: int, width: int) -> Callable[[Result], bool]:
    """Whether a result is of a convnet of the neural-graphs paper."""
    wanted = {"data": data, "size": f"{size}", "width": f"{width}", "depth": "3", "batch": "128"}

    def counts(result: Result) -> bool:
        family, own = options_of(result.row.task)
        return (
            (family, result.row.suite, result.row.budget.steps) == ("convnet", "near", 1000)
        ) and wanted.items() <= own.items()

    return counts


def _speed_up(floor: float, goal: float) -> Callable[[Results], Verdict]:
    def judge(results: Results) -> Verdict:
        mean = interquartile_mean([result.row.speed_up for result in results])
        return f"{mean:.2f}", mean >= floor, mean >= goal

    return judge


def _worse(results: Results) -> Verdict:
    worse = sum(result.row.worse for result in results)
    return f"{worse} of {len(results)}", 5 * worse <= len(results), worse == 0


def _large(results: Results) -> Verdict:
    lost = sum(result.lost for result in results)
    runs = sum(result.row.budget.problems for result in results)
    mean, _, fast = _speed_up(0, 1.3)(results)
    return f"{lost} of {runs}; {mean}", lost == 0, lost == 0 and fast


def _accuracy(floor: float, goal: float) -> Callable[[Results], Verdict]:
    def judge(results: Results) -> Verdict:
        ((own, theirs),) = ((r.row.accuracy, r.reference.accuracy) for r in results)
        if own is None or theirs is None:  # a run has diverged
            return "-", False, False
        above = own > theirs and 100 * own >= floor
        return f"{100 * own:.1f} ({100 * (own - theirs):+.1f})", above, 100 * own >= goal

    return judge


def _transfer(results: Results) -> Verdict:
    pairs = [(r.row.accuracy, r.reference.accuracy) for r in results]
    least = min(-math.inf if a is None or b is None else 100 * (a - b) for a, b in pairs)
    return f"{least:+.1f}", least >= 0, least >= 3


GOALS = (
    Goal("*near*: speed-up", "1.5", "2.5", _in("near"), _speed_up(1.5, 2.5)),
    Goal("*far*: speed-up", "1.1", "1.9", _in("far"), _speed_up(1.1, 1.9)),
    Goal("*far*: tasks worse by more than 2 %", "at most 1 in 5", "none", _in("far"), _worse),
    Goal(
        "*large*: runs that diverge or stall; speed-up", "none", "none; 1.3", _in("large"), _large
    ),
    Goal(
        "CIFAR-10, the paper's unseen net: accuracy in %",
        "61, and above",
        "68",
        _net("cifar10", 32, 32),
        _accuracy(61, 68),
    ),
    Goal(
        "FashionMNIST, the paper's net: accuracy in %",
        "above",
        "87",
        _net("fashion_mnist", 28, 16),
        _accuracy(0, 87),
    ),
    Goal(
        "*transfer*: least difference in accuracy, in points", "0", "3", _in("transfer"),
        _transfer,
    ),
)  # fmt: skip
"""What was set as floor and goal before the rules were meta-trained."""
