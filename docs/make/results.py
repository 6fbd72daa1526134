"""docs/results.md: evaluations and experiments, of which docs/results/ keeps smaller copies."""

import json
import math
import re
import shlex
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import ablation, paper
from benchmarks.paper_scales import Network, Scale
from docs.make import evaluation
from docs.make.page import DOCS, as_text, fill, section
from meta_train.baselines import opponent
from meta_train.comparison import Row, renamed
from meta_train.curves import Budget
from meta_train.plot import plot, plot_speed_ups
from meta_train.table import table_lines

Json: TypeAlias = Mapping[str, Any]

KINDS = {"criterion": "evaluation", "scale": "paper", "rows": "workloads", "found": "ablation"}
"""Kinds of files, by a key that those below do not have."""

CONTESTANTS = {"ngopt": "own rate", "swap": "rate kept", "params": "parameters alone"}
"""Optimizers of workloads, in a word or two."""

DIGITS = 5
PLACES = ("--out", "--cache", "--folder")
"""Options of commands that say where files are, and nothing about results."""


def make(given: Sequence[str], docs: Path = DOCS) -> None:
    """Keep what is needed of files, draw the pictures, and fill the page.

    Args:
        given: JSON files of an evaluation and of the benchmarks paper, ablation and workloads.
            What is not given stays as it is in `results/`.
        docs: folder of the page.

    Raises:
        SystemExit: if a file is of no known kind.
    """
    for folder in ("results", "images"):
        (docs / folder).mkdir(exist_ok=True)
    for path in map(Path, given):
        keep(path, docs)
    found = kept(docs / "results")
    for content in found["evaluation"]:
        plot_speed_ups(evaluation.comparison_of(content), docs / "images" / "speed_ups.png")
    fill(docs / "results.md", blocks(found))


def kept(folder: Path) -> dict[str, list[Any]]:
    """Contents of the smaller copies, by kind."""
    paths = {kind: sorted(folder.glob(f"{kind}*.json")) for kind in KINDS.values()}
    return {kind: [json.loads(p.read_text("utf-8")) for p in paths[kind]] for kind in paths}


def blocks(found: Mapping[str, Sequence[Json]]) -> dict[str, list[str]]:
    """All blocks of the page."""
    several: dict[str, Callable[[Json], list[str]]] = {
        "paper": paper_lines,
        "ablation": ablation_lines,
        "workloads": workload_summary,
        "each-workload": workload_lines,
    }
    made: dict[str, list[str]] = {}
    for block, lines in several.items():
        contents = found["workloads" if block == "each-workload" else block]
        made[block] = [line for content in contents for line in (*lines(content), "")]
    for content in found["evaluation"]:
        made |= evaluation.blocks(content)
    order = ("evaluation", "workloads", "paper", "ablation")
    commands = [wrapped(content["command"]) for kind in order for content in found[kind]]
    return made | {"commands": ["```bash", *commands, "python -m docs.make results", "```"]}


def keep(path: Path, docs: Path) -> None:
    """Keep what the page needs of a file, and draw the curves that only an evaluation has.

    Raises:
        SystemExit: if it is of no known kind.
    """
    try:
        text = path.read_text("utf-8")
        content = json.loads(text, parse_float=rounded, parse_constant=lambda _: None)
        kind = next(kind for key, kind in KINDS.items() if key in content)
        small = smaller(kind, content)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise SystemExit(
            f"cannot use `{path}` ({error!r}).\n  Give a JSON file that the present version of "
            "evaluate, or of the benchmarks paper, ablation or workloads, has written."
        ) from error
    name = path.stem if path.stem.startswith(kind) else f"{kind}-{path.stem}"
    name = kind if kind == "evaluation" else name  # of which there is one
    (docs / "results" / f"{name}.json").write_text(as_text(small), "utf-8")
    if kind == "evaluation" and small["pictured"]:
        draw(content["curves"], small, docs / "images" / "curves.png")


def draw(curves: Json, small: Json, path: Path) -> None:
    """Draw the curves of the tasks that are pictured."""
    names = evaluation.short_names([row["task"] for row in small["rows"]])
    panels = {}
    for group, task in small["pictured"]:
        of_task = curves[f"{group}: {task}" if group else task].items()
        panels[evaluation.placed(names[task], group)] = {
            name: [math.nan if loss is None else loss for loss in losses]
            for name, losses in of_task
        }
    plot(panels, path)


def rounded(number: str) -> float:
    """A number of a JSON file, with few digits."""
    return float(f"{float(number):.{DIGITS}g}")


def smaller(kind: str, content: Json) -> dict[str, Any]:
    """What the page needs of a file."""
    small: dict[str, Any] = {"command": without_places(content["command"])}
    if kind == "paper":
        small |= {key: content["scale"][key] for key in ("note", "networks", "budgets")}
    if kind != "evaluation":
        return small | {
            key: content[key] for key in ("summaries", "rows", "found") if key in content
        }
    options, settings = content["options"], opponent(content["reference"]).settings
    names = [field.name for field in fields(Row)]
    small |= {
        **{name: content[name] for name in ("reference", "criterion", "planned")},
        **{name: options[name] for name in ("opponents", "screen", "seed", "lr")},
        "settings": len(settings),
        "lrs": sorted({setting.lr for setting in settings}),
        "rows": [{name: renamed(row)[name] for name in names} for row in content["rows"]],
    }
    return small | {"pictured": evaluation.pictured(small) if content.get("curves") else []}


def without_places(command: str) -> str:
    """A command without the options that say where files are.

    >>> without_places("python -m benchmarks.paper --scale small --out=a --folder b")
    'python -m benchmarks.paper --scale small'

    Raises:
        ValueError: if it names another place of one machine.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    for option in PLACES:
        parser.add_argument(option)
    _, words = parser.parse_known_args(shlex.split(command))
    for word in words:
        if word.startswith(("/", "~")):
            raise ValueError(f"its command holds a place of one machine, {word}")
    return shlex.join(words)


def wrapped(command: str, width: int = 100) -> str:
    r"""A command in lines that a page can show, each but the first beginning with an option.

    >>> print(wrapped("python -m benchmarks.paper " + "--scale small " * 2, 45))
    python -m benchmarks.paper --scale small \
        --scale small
    """
    first, *options = re.split(r" (?=--)", command.strip())
    lines = [first]
    for option in options:
        if len(lines[-1]) + len(option) + len("  \\") <= width:
            lines[-1] += f" {option}"
        else:
            lines.append(f"    {option}")
    return " \\\n".join(lines)


def paper_lines(content: Json) -> list[str]:
    """The tables of `benchmarks.paper`."""
    networks = tuple(Network(**network) for network in content["networks"])
    budgets = {table: Budget(**budget) for table, budget in content["budgets"].items()}
    scale = Scale(content["note"], {}, networks, budgets)
    return section(paper.markdown(content["found"], scale))


def ablation_lines(content: Json) -> list[str]:
    """The tables of `benchmarks.ablation`."""
    found = []
    for contestant in content["found"]:
        figures = {
            task: vars(Row.of(row)) | {"budget": row["budget"]}
            for task, row in contestant["figures"].items()
        }
        found.append({**contestant, "figures": figures})
    return section(ablation.markdown(found))


def workload_summary(content: Json) -> list[str]:
    """Means over workloads, from `benchmarks.workloads`."""
    rows = [
        [
            f"{CONTESTANTS.get(row['optimizer'], row['optimizer'])}, {row['task']}",
            *(str(row[key]) for key in ("workloads", "worse", "better")),
            *(_share(row[key]) for key in ("steps", "seconds", "cost")),
        ]
        for row in content["summaries"]
        if row["optimizer"] != "recipe"
    ]
    head = ["", "workloads", "worse", "better", "steps", "seconds", "seconds of a step"]
    return table_lines(head, rows)


def workload_lines(content: Json) -> list[str]:
    """Each workload, from `benchmarks.workloads`."""
    rows = {(row["workload"], row["optimizer"]): row for row in content["rows"]}
    others = [name for name in dict.fromkeys(who for _, who in rows) if name != "recipe"]
    heads = ((CONTESTANTS.get(name, name), "steps", "seconds") for name in others)
    table = []
    for name in dict.fromkeys(name for name, _ in rows):
        cells = [f"`{name}`", _final(rows.get((name, "recipe")))]
        for row in (rows.get((name, other)) for other in others):
            shares = [_share(row[key]) for key in ("steps", "seconds")] if row else ["-", "-"]
            cells += [_final(row), *shares]
        table.append(cells)
    return table_lines(["", "recipe", *(word for head in heads for word in head)], table)


def _final(row: Json | None) -> str:
    """Final metric, with its deviation where there are several seeds; bold where it is better."""
    if row is None or row["final"] is None:
        return "-" if row is None else f"{row['diverged']} of {row['seeds']} diverged"
    spread = f" ± {row['spread']:.2g}" if row["seeds"] > 1 else ""
    final = f"{row['final']:.4g}{spread}"
    return {"better": f"**{final}**", "worse": f"{final} (worse)"}.get(row["verdict"], final)


def _share(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"
