"""The text of docs/results.md, made of the compact results that are in docs/results/."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import ablation, paper
from benchmarks.paper_scales import Network, Scale
from docs import results_tables
from docs.results_figures import (
    GOALS,
    Result,
    Results,
    chosen,
    comparison_of,
    placed,
    results_of,
    row_of,
    short_names,
)
from meta_train.baselines import FINALISTS
from meta_train.comparison import STALLED, WORSE, Comparison
from meta_train.curves import Budget
from meta_train.rings import ring
from meta_train.spec import parse
from meta_train.table import table_lines

RINGS = {
    "near": "perceptrons and convnets, which rules are meta-trained on, in sizes of their own",
    "kin": "kinds of models that rules are meta-trained on, with other data and in other sizes",
    "far": "architectures that no rule has seen in meta-training",
    "large": "ten times the weights and ten times the steps of anything in meta-training",
    "transfer": "the paper's convnet over width and depth",
    "validation": "small and fast, to choose rules by",
}
"""What the tasks of each ring are."""

UNCUT = (
    "the ring as it was before it was cut in two, 12 tasks of which five are now in *kin*: "
    "architectures that no rule of that time had seen in meta-training"
)
"""What the tasks of the ring `far` were before some of its kinds were meta-trained."""

PROMISED = ("near", "kin", "far", "large")
"""Rings whose tasks tell what the rule is good and bad at."""

CRITERIA = {"train": "final training loss", "held_out": "held-out loss"}

EXTREMES = 3
"""Number of tasks that are named as the best, and as the worst."""


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
    """The whole page."""
    lines = ["# Results", "", "Made by `python docs/make_results.py` from the files in `results/`."]
    if sources.remarks:
        lines += ["", sources.remarks.strip()]
    if sources.evaluation is None:
        lines += ["", "The rules have not been evaluated on the rings of tasks yet."]
    else:
        lines += evaluated(sources.evaluation)
    for content in sources.workloads.values():
        lines += workload_lines(content)
    for content in sources.papers.values():
        lines += paper_lines(content)
    if not sources.papers:
        lines += ["", "The table of the neural-graphs paper has not been computed yet."]
    for content in sources.ablations.values():
        lines += ablation_lines(content)
    if not sources.ablations:
        lines += ["", "The ablation has not been computed yet."]
    return "\n".join([*lines, *_commands(sources), ""])


def evaluated(content: Mapping[str, Any]) -> list[str]:
    """All sections about the evaluation on rings."""
    comparison = comparison_of(content)
    found = results_of(comparison)
    names = short_names([row.task for row in comparison.rows])
    lines = _protocol(comparison, content)
    done = len({(row.ring, row.task) for row in comparison.rows})
    if done < comparison.planned:
        lines += ["", f"**Not finished: {done} of {comparison.planned} tasks.**"]
    lines += _goals(found, content["opponents"])
    rule = chosen(list(found), content["opponents"])
    if rule is not None:
        lines += _good_and_bad(rule, found[rule], names)
    lines += results_tables.rings(comparison, found)
    return [*lines, *results_tables.tasks(found, names), *results_tables.curves(content, names)]


def _protocol(comparison: Comparison, content: Mapping[str, Any]) -> list[str]:
    reference, lrs = comparison.reference, content["lrs"]
    there = {row.ring for row in comparison.rows}
    texts = RINGS | ({"far": UNCUT} if _uncut(comparison) else {})
    rings = [f"*{name}*: {text}" for name, text in texts.items() if name in there]
    unseen = [f"*{name}*" for name in RINGS if name in there and name != "validation"]
    kept_out = f" Nothing of {', '.join(unseen)} was used to meta-train or to choose a rule."
    criterion = CRITERIA.get(comparison.criterion, f"held-out {comparison.criterion}")
    screened = (
        f" (all are tried on {content['screen']} start(s), and the best {FINALISTS} of each "
        "schedule on all)"
    )
    edges = sum(row.at_edge for row in comparison.rows if row.contestant == reference)
    lr = "the learning rate it was meta-trained at" if content["lr"] is None else content["lr"]
    return [
        "",
        "## What was measured",
        "",
        f"* Models are trained on tasks in rings. {'; '.join(rings) or 'Here, of none'}."
        + kept_out * bool(unseen),
        f"* The opponent is `{reference}` with the best of {content['settings']} settings for each "
        f"task by its {criterion}{screened if content['screen'] else ''}: learning rates from "
        f"{lrs[0]:g} to {lrs[-1]:g}, constant or along a cosine. The best was the smallest or "
        f"largest of them on {edges} task(s).",
        f"* The rules are not tuned: each runs at {lr}, constant, and knows neither the task nor "
        "the number of steps. Only those that say `tuned` have a sweep like the opponent's.",
        "* Speed-up: the number of steps after which the opponent is at its own final training "
        "loss, divided by the number after which the rule is there; 0 if it never is. It counts "
        "steps, not seconds. Figures of a ring are interquartile means over its tasks; those of a "
        "task are means over its starts.",
        f"* Worse: a final training loss above {WORSE:g} times the opponent's. Stalled: a run "
        f"whose final loss is above {STALLED:g} of its loss early on, while the opponent's final "
        "loss is below that share of it.",
    ]


def _uncut(comparison: Comparison) -> bool:
    """Whether kinds that are now in the ring `kin`, and not in `far`, were in `far` then."""
    kin, far = ({parse(entry.family).name for entry in ring(name)} for name in ("kin", "far"))
    seen = {row.task.partition("(")[0] for row in comparison.rows if row.ring == "far"}
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
        "",
        "## Floors and goals",
        "",
        "What the project has set itself for the default rule; accuracies are on test data at step "
        "1,000. *Above* means above the tuned opponent, whose distance in points is in brackets. "
        "That the graph is worth having is for the ablation to show: base against `graph-off`.",
        "",
        *table_lines(["", "floor", "goal", *(f"`{name}`" for name in rules)], rows),
    ]


def _good_and_bad(rule: str, results: Results, names: Mapping[str, str]) -> list[str]:
    told = [result for result in results if result.row.ring in PROMISED] or results
    count = min(EXTREMES, len(told) // 2)
    by_speed = sorted(told, key=lambda result: (-result.row.speed_up, result.ratio))
    by_loss = sorted(told, key=lambda result: -result.ratio)
    faster = sum(result.row.speed_up > 1 for result in told)
    lower = sum(result.ratio < 1 for result in told)

    def listed(chosen: Results) -> list[str]:
        return [f"* {_described(result, names)}" for result in chosen]

    return [
        "",
        "## What it is good at",
        "",
        f"`{rule}` reaches the opponent's final loss in fewer steps on {faster} of {len(told)} "
        f"tasks, and ends lower on {lower}. Where it is fastest:",
        "",
        *listed(by_speed[:count]),
        "",
        "## What it is bad at",
        "",
        "Where it ends highest:",
        "",
        *listed(by_loss[:count]),
        "",
        *_all_of("It is worse, by more than 2 % of the final training loss, on", [
            result for result in told if result.row.worse], names),
        "",
        *_all_of("It diverges or stalls on", [result for result in told if result.lost], names),
        "",
        *_all_of(
            "Although its training loss is no worse, its test loss is more than 2 % above the "
            "opponent's on",
            [r for r in told if r.test_ratio > WORSE and not r.row.worse],
            names,
        ),
    ]  # fmt: skip


def _all_of(text: str, chosen: Results, names: Mapping[str, str]) -> list[str]:
    listed = "; ".join(placed(names[result.row.task], result.row.ring) for result in chosen)
    return [f"{text} {len(chosen)} task(s): {listed}." if chosen else f"{text} no task."]


def _described(result: Result, names: Mapping[str, str]) -> str:
    row = result.row
    speed = f"{row.speed_up:.2f} times as fast" if row.speed_up else "never as low"
    return (
        f"{placed(names[row.task], row.ring)}: {speed}, final training loss "
        f"{result.ratio:.3g} of the opponent's, test loss {result.test_ratio:.3g}"
    )


def paper_lines(content: Mapping[str, Any]) -> list[str]:
    """The tables of `benchmarks.paper`."""
    scale = Scale(
        content["note"],
        {},
        tuple(Network(**network) for network in content["networks"]),
        {table: Budget(**budget) for table, budget in content["budgets"].items()},
    )
    return _below(paper.markdown(content["found"], scale))


def ablation_lines(content: Mapping[str, Any]) -> list[str]:
    """The tables of `benchmarks.ablation`."""
    found = [
        {
            **contestant,
            "figures": {k: vars(row_of(row)) | {"budget": row["budget"]}
                for k, row in contestant["figures"].items()},
        }
        for contestant in content["found"]
    ]  # fmt: skip
    return _below(ablation.markdown(found))


WHO = {"recipe": "recipe", "ngopt": "own rate", "swap": "rate kept", "params": "parameters alone"}
"""Optimizers of workloads, in a word or two."""


def workload_lines(content: Mapping[str, Any]) -> list[str]:
    """The tables of `benchmarks.workloads`."""
    rows = {(row["workload"], row["optimizer"]): row for row in content["rows"]}
    names = list(dict.fromkeys(name for name, _ in rows))
    others = [name for name in dict.fromkeys(who for _, who in rows) if name != "recipe"]
    lines = [
        "",
        "## Workloads",
        "",
        "Trainings that people do, by their own recipes, with the recipe's optimizer replaced. "
        "*Own rate*: ngopt as it comes; *rate kept*: with the learning rate, weight decay and "
        "schedule of the recipe. What each of them is, its metric, and how they are run: "
        "[workloads.md](workloads.md). Final metric: mean and standard deviation over seeds; "
        "*steps*, *seconds*: share of the recipe's until its final metric, `-` if that is never "
        "reached; *worse*, *better*: by more than the larger deviation. The means are "
        "interquartile; in them, `-` counts as 1.",
        "",
    ]
    summaries = [row for row in content["summaries"] if row["optimizer"] != "recipe"]
    lines += table_lines(
        ["", "workloads", "worse", "better", "steps", "seconds", "seconds of a step"],
        [
            [
                f"{WHO.get(row['optimizer'], row['optimizer'])}, {row['task']}",
                *(str(row[key]) for key in ("workloads", "worse", "better")),
                *(_number(row[key], 2) for key in ("steps", "seconds", "cost")),
            ]
            for row in summaries
        ],
    )
    head = ["", "seeds", "recipe"]
    for name in others:
        head += [WHO.get(name, name), "", "steps", "seconds"]
    table = []
    for name in names:
        cells = [f"`{name}`", str(max(row["seeds"] for key, row in rows.items() if key[0] == name))]
        cells.append(_final(rows.get((name, "recipe"))))
        for other in others:
            row = rows.get((name, other))
            cells += [_final(row), *_shares(row)]
        table.append(cells)
    return [*lines, "", *table_lines(head, table)]


def _final(row: Mapping[str, Any] | None) -> str:
    """Final metric, with its deviation where there are several seeds."""
    if row is None or row["final"] is None:
        return "-" if row is None else f"{row['diverged']} of {row['seeds']} diverged"
    spread = f" ± {row['spread']:.2g}" if row["seeds"] > 1 else ""
    return f"{row['final']:.4g}{spread}"


def _shares(row: Mapping[str, Any] | None) -> list[str]:
    if row is None:
        return ["", "-", "-"]
    return [row["verdict"], _number(row["steps"], 2), _number(row["seconds"], 2)]


def _number(number: float | None, digits: int) -> str:
    return "-" if number is None else f"{number:.{digits}f}"


def _below(text: str) -> list[str]:
    """Lines of a page, as a section of this one."""
    return ["", *("#" + line if line.startswith("#") else line for line in text.splitlines())]


def _commands(sources: Sources) -> list[str]:
    given = (sources.workloads, sources.papers, sources.ablations)
    contents = [sources.evaluation, *(content for kind in given for content in kind.values())]
    commands = [content["command"] for content in contents if content is not None]
    return ["", "## Commands", "", "```bash", *commands, "python docs/make_results.py", "```"]
