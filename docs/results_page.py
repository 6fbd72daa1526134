"""The text of docs/results.md, made of the compact results that are in docs/results/."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from benchmarks import ablation, paper
from benchmarks.paper_scales import Network, Scale
from docs.results_figures import (
    GOALS,
    Result,
    Results,
    chosen,
    comparison_of,
    placed,
    results_of,
    short_names,
)
from meta_train.baselines import FINALISTS
from meta_train.comparison import STALLED, WORSE, Comparison, Row, interquartile_mean
from meta_train.curves import Budget
from meta_train.spec import parse
from meta_train.suites import suite
from meta_train.table import table_lines

GROUPS = {
    "near": "perceptrons and convnets, which rules are meta-trained on, in other sizes",
    "kin": "kinds of models that rules are meta-trained on, with other data and in other sizes",
    "far": "architectures that no rule was meta-trained on",
    "large": "ten times the weights and ten times the steps of anything in meta-training",
    "transfer": "the paper's convnet over width and depth",
    "validation": "small and fast, to choose rules by",
}
"""Groups of tasks (`--suites`), and what is in them."""

UNCUT = (
    "as it was before it was split, 12 tasks of which five are now in *kin*: architectures that no "
    "rule of that time was meta-trained on"
)
"""The group `far` before some of its kinds were meta-trained."""

PROMISED = ("near", "kin", "far", "large")
"""Groups whose tasks tell what the rule is good and bad at."""

CRITERIA = {"train": "final training loss", "held_out": "held-out loss"}

EXTREMES = 3
"""Number of tasks that are named as the best, and as the worst."""

CONTESTANTS = {"ngopt": "own rate", "swap": "rate kept", "params": "parameters alone"}
"""Optimizers of workloads, in a word or two."""

WORKLOADS = """
## Workloads

Trainings that people do, by their own recipes, with the recipe's optimizer replaced
([what each of them is](workloads.md)).

* *Own rate*: ngopt as it comes. *Rate kept*: with the recipe's learning rate, weight decay and schedule.
* *Steps*, *seconds*: share of the recipe's until its final metric; `-` if that is never reached. Means are interquartile; in
  them, `-` counts as 1.
* *Worse*, *better*: final metric by more than the larger standard deviation over seeds.
"""  # noqa: E501

PROTOCOL = """
## What was measured

* Tasks are in groups. {groups}.{kept_out}
* The opponent is `{reference}` with the best of {settings} settings for each task by its {criterion}{screened}: learning rates
  from {low:g} to {high:g}, constant or along a cosine. The best was the smallest or largest of them on {edges} task(s).
* The rules are not tuned: each runs at {lr}, constant, and gets neither the task nor the number of steps. Only those marked
  `tuned` have a sweep like the opponent's.
* *Speed-up*: steps until the opponent reaches its own final training loss, divided by the steps until the rule does; 0 if it
  never does. It counts steps, not seconds. Figures of a group are interquartile means over its tasks; those of a task are means
  over its starts.
* *Worse*: a final training loss above {worse:g} times the opponent's.
* *Stalled*: a run whose final loss is above {stalled:g} of its loss early on, while the opponent's final loss is below that share.
"""  # noqa: E501


@dataclass(frozen=True)
class Sources:
    """What the page is made of, as far as it is there.

    Args:
        evaluation: compact `evaluation.json`.
        papers: compact results of `benchmarks.paper`, by name.
        ablations: compact results of `benchmarks.ablation`, by name.
        workloads: compact reports of `benchmarks.workloads`, by name.
        remarks: Markdown written by hand.
    """

    evaluation: Mapping[str, Any] | None = None
    papers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ablations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    workloads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    remarks: str = ""


def page(sources: Sources) -> str:
    """The whole page: summaries first, then how they were measured, then every task."""
    lines = ["# Results", "", "Made by `python docs/make_results.py` from the files in `results/`."]
    first, rest = evaluated(sources.evaluation) if sources.evaluation else ([], [])
    lines += first or ["", "The rules have not been evaluated on the groups of tasks yet."]
    for content in sources.workloads.values():
        lines += workload_lines(content)
    if sources.remarks:
        lines += ["", "## Remarks", "", sources.remarks.strip()]
    lines += rest
    for content in sources.papers.values():
        lines += paper_lines(content)
    if not sources.papers:
        lines += ["", "The table of the neural-graphs paper has not been computed yet."]
    for content in sources.ablations.values():
        lines += ablation_lines(content)
    if not sources.ablations:
        lines += ["", "The ablation has not been computed yet."]
    return "\n".join([*lines, *_commands(sources), ""])


def evaluated(content: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The evaluation on groups of tasks: the summary of it, and the details."""
    comparison = comparison_of(content)
    found, names = results_of(comparison), short_names([row.task for row in comparison.rows])
    first = group_lines(comparison, found)
    done = len({(row.suite, row.task) for row in comparison.rows})
    if done < comparison.planned:
        first += ["", f"**Not finished: {done} of {comparison.planned} tasks.**"]
    rest = _goals(found, content["opponents"])
    rule = chosen(list(found), content["opponents"])
    if rule is not None:
        rest += _good_and_bad(rule, found[rule], names)
    rest += [*_protocol(comparison, content), *task_lines(found, names)]
    return first, [*rest, *curve_lines(content, names)]


def group_lines(comparison: Comparison, found: Mapping[str, Results]) -> list[str]:
    """A table over the groups of tasks, and its picture."""
    rows = []
    for summary in comparison.summaries:
        own = [r for r in found.get(summary.contestant, []) if r.row.suite == summary.suite]
        losses = [
            f"{interquartile_mean(ratios):.3g}" if ratios else "1"
            for ratios in ([r.ratio for r in own], [r.test_ratio for r in own])
        ]
        counts = f"{summary.worse} of {summary.tasks}", summary.stalled, summary.diverged
        who = summary.suite or "none", f"`{summary.contestant}`", f"{summary.speed_up:.2f}"
        rows.append([*who, *losses, *map(str, counts)])
    head = ["tasks", "", "speed-up", "train loss", "test loss", "worse", "stalled", "diverged"]
    return [
        *("", "## Groups of tasks", ""),
        "Rules as they come, against a tuned opponent. Losses in units of the opponent's; "
        "*stalled*, *diverged*: numbers of runs ([what was measured](#what-was-measured)).",
        *("", *table_lines(head, rows), ""),
        *("![Speed-up on each task, group by group](images/speed_ups.png)", ""),
        "A dot is a task, a bar an interquartile mean; triangles are at 0.",
    ]


def task_lines(found: Mapping[str, Results], names: Mapping[str, str]) -> list[str]:
    """A table of each group, with a line for each task.

    Args:
        found: results of each contestant, all on the same tasks.
        names: short ones of the tasks.
    """
    lines = [
        *("", "## Every task", ""),
        "The opponent's final training loss; for each rule, speed-up and final training loss in "
        "units of the opponent's, in bold where it is worse; † where runs have diverged or stalled."
        " Names leave out what all tasks of an architecture have in common; full names are in "
        "[results/evaluation.json](results/evaluation.json).",
    ]
    head = ["task", "steps", "opponent", *(f"`{name}`" for name in found)]
    tasks = list(zip(*found.values(), strict=True))
    for group, results in groupby(tasks, lambda of_task: of_task[0].row.suite):
        rows = []
        for of_task in results:
            row, reference = of_task[0].row, of_task[0].reference
            facts = names[row.task], f"{row.budget.steps:,}", f"{reference.train:.4g}"
            rows.append([*facts, *map(_cell, of_task)])
        lines += ["", f"### {group or 'Of no group'}", "", *table_lines(head, rows)]
    return lines


def _cell(result: Result) -> str:
    ratio = f"{result.ratio:.3f}" if result.ratio < 10 else f"{result.ratio:.3g}"
    worse = f"**{ratio}**" if result.row.worse else ratio
    return f"{result.row.speed_up:.2f} · {worse}" + " †" * (result.lost > 0)


def curve_lines(content: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """The picture of curves, if there is one, and what is on it."""
    if not content["pictured"]:
        return []
    listed = "; ".join(placed(names[task], group) for group, task in content["pictured"])
    return [
        *("", "## Curves", ""),
        f"From the task on which the rule is fastest to the one on which it is slowest: {listed}.",
        *("", "![Training losses on some of the tasks](images/curves.png)"),
    ]


def _protocol(comparison: Comparison, content: Mapping[str, Any]) -> list[str]:
    there = {row.suite for row in comparison.rows}
    texts = GROUPS | ({"far": UNCUT} if _uncut(comparison) else {})
    unseen = [f"*{name}*" for name in GROUPS if name in there and name != "validation"]
    kept_out = f" Nothing of {', '.join(unseen)} was used to meta-train or to choose a rule."
    screened = (
        f" (all are tried on {content['screen']} start(s), and the best {FINALISTS} of each "
        "schedule on all)"
    )
    criterion = f"held-out {comparison.criterion}"
    text = PROTOCOL.format(
        groups="; ".join(f"*{n}*: {t}" for n, t in texts.items() if n in there) or "Here, of none",
        kept_out=kept_out * bool(unseen),
        reference=comparison.reference,
        settings=content["settings"],
        criterion=CRITERIA.get(comparison.criterion, criterion),
        screened=screened * bool(content["screen"]),
        low=content["lrs"][0],
        high=content["lrs"][-1],
        edges=sum(r.at_edge for r in comparison.rows if r.contestant == comparison.reference),
        lr="the learning rate it was meta-trained at" if content["lr"] is None else content["lr"],
        worse=WORSE,
        stalled=STALLED,
    )
    return text.rstrip().splitlines()


def _uncut(comparison: Comparison) -> bool:
    """Whether kinds that are now in the group `kin`, and not in `far`, were in `far` then."""
    kin, far = ({parse(entry.family).name for entry in suite(name)} for name in ("kin", "far"))
    seen = {row.task.partition("(")[0] for row in comparison.rows if row.suite == "far"}
    return bool(seen & (kin - far))


def _goals(found: Mapping[str, Results], opponents: Sequence[str]) -> list[str]:
    rules = [name for name in found if name not in opponents]
    if not rules:
        return []
    rows = [
        [goal.name, goal.floor, goal.goal, *(goal.cell(found[name]) for name in rules)]
        for goal in GOALS
    ]
    return [
        *("", "## Floors and goals", ""),
        "What the project has set itself for the default rule. Accuracies are on test data at step "
        "1,000; *above* means above the tuned opponent, with the distance in points in brackets. "
        "Whether the graph helps is for the ablation to show: base against `graph-off`.",
        *("", *table_lines(["", "floor", "goal", *(f"`{name}`" for name in rules)], rows)),
    ]


def _good_and_bad(rule: str, results: Results, names: Mapping[str, str]) -> list[str]:
    told = [result for result in results if result.row.suite in PROMISED] or results
    count = min(EXTREMES, len(told) // 2)
    by_speed = sorted(told, key=lambda result: (-result.row.speed_up, result.ratio))
    by_loss = sorted(told, key=lambda result: -result.ratio)
    faster = sum(result.row.speed_up > 1 for result in told)
    lower = sum(result.ratio < 1 for result in told)
    failures = {
        "Worse, by more than 2 % of the final training loss, on": [r for r in told if r.row.worse],
        "Diverges or stalls on": [r for r in told if r.lost],
        "Training loss no worse, but test loss more than 2 % above the opponent's, on": [
            r for r in told if r.test_ratio > WORSE and not r.row.worse
        ],
    }
    return [
        *("", "## What it is good at", ""),
        f"`{rule}` reaches the opponent's final loss in fewer steps on {faster} of {len(told)} "
        f"tasks, and ends lower on {lower}. Where it is fastest:",
        *("", *_described(by_speed[:count], names)),
        *("", "## What it is bad at", "", "Where it ends highest:", ""),
        *_described(by_loss[:count], names),
        "",
        *(f"* {text} {_named(failed, names)}." for text, failed in failures.items()),
    ]


def _named(results: Results, names: Mapping[str, str]) -> str:
    listed = "; ".join(placed(names[result.row.task], result.row.suite) for result in results)
    return f"{len(results)} task(s): {listed}" if results else "no task"


def _described(results: Results, names: Mapping[str, str]) -> list[str]:
    """A table of some tasks."""
    rows = [
        [
            placed(names[result.row.task], result.row.suite),
            f"{result.row.speed_up:.2f}" if result.row.speed_up else "never as low",
            f"{result.ratio:.3g}",
            f"{result.test_ratio:.3g}",
        ]
        for result in results
    ]
    return table_lines(["task", "speed-up", "train loss / opponent's", "test loss"], rows)


def paper_lines(content: Mapping[str, Any]) -> list[str]:
    """The tables of `benchmarks.paper`."""
    networks = tuple(Network(**network) for network in content["networks"])
    budgets = {table: Budget(**budget) for table, budget in content["budgets"].items()}
    return _below(paper.markdown(content["found"], Scale(content["note"], {}, networks, budgets)))


def ablation_lines(content: Mapping[str, Any]) -> list[str]:
    """The tables of `benchmarks.ablation`."""
    found = []
    for contestant in content["found"]:
        figures = {
            task: vars(Row.of(row)) | {"budget": row["budget"]}
            for task, row in contestant["figures"].items()
        }
        found.append({**contestant, "figures": figures})
    return _below(ablation.markdown(found))


def workload_lines(content: Mapping[str, Any]) -> list[str]:
    """The tables of `benchmarks.workloads`."""
    rows = {(row["workload"], row["optimizer"]): row for row in content["rows"]}
    others = [name for name in dict.fromkeys(who for _, who in rows) if name != "recipe"]
    summaries = [
        [
            f"{CONTESTANTS.get(row['optimizer'], row['optimizer'])}, {row['task']}",
            *(str(row[key]) for key in ("workloads", "worse", "better")),
            *(_share(row[key]) for key in ("steps", "seconds", "cost")),
        ]
        for row in content["summaries"]
        if row["optimizer"] != "recipe"
    ]
    head = ["", "workloads", "worse", "better", "steps", "seconds", "seconds of a step"]
    lines = [*WORKLOADS.rstrip().splitlines(), "", *table_lines(head, summaries)]
    head, table = ["", "seeds", "recipe"], []
    for name in others:
        head += [CONTESTANTS.get(name, name), "", "steps", "seconds"]
    for name in dict.fromkeys(name for name, _ in rows):
        seeds = max(row["seeds"] for key, row in rows.items() if key[0] == name)
        cells = [f"`{name}`", str(seeds), _final(rows.get((name, "recipe")))]
        for row in (rows.get((name, other)) for other in others):
            shares = [row["verdict"], _share(row["steps"]), _share(row["seconds"])] if row else []
            cells += [_final(row), *(shares or ["", "-", "-"])]
        table.append(cells)
    return [*lines, "", "Final metric, mean and standard deviation:", "", *table_lines(head, table)]


def _final(row: Mapping[str, Any] | None) -> str:
    """Final metric, with its deviation where there are several seeds."""
    if row is None or row["final"] is None:
        return "-" if row is None else f"{row['diverged']} of {row['seeds']} diverged"
    spread = f" ± {row['spread']:.2g}" if row["seeds"] > 1 else ""
    return f"{row['final']:.4g}{spread}"


def _share(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def _below(text: str) -> list[str]:
    """Lines of a page, as a section of this one."""
    return ["", *("#" + line if line.startswith("#") else line for line in text.splitlines())]


def _commands(sources: Sources) -> list[str]:
    given = (sources.workloads, sources.papers, sources.ablations)
    contents = [sources.evaluation, *(content for kind in given for content in kind.values())]
    commands = [content["command"] for content in contents if content is not None]
    return ["", "## Commands", "", "```bash", *commands, "python docs/make_results.py", "```"]
