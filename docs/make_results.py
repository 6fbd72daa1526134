"""Write docs/results.md and its pictures from the files of an evaluation and of experiments.

    python docs/make_results.py evaluation/evaluation.json --paper results/paper-small.json \
        --ablation results/ablation-default.json --workloads runs/workloads/report.json

What these hold is first made small and kept in docs/results/, which the page is made of; those not
given stay as they are there. Without arguments, the page is made anew, and comes out the same.
docs/results/remarks.md is written by hand, and becomes part of the page.
"""

import argparse
import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.results_figures import chosen, comparison_of, placed, results_of, short_names  # noqa: E402
from docs.results_page import Sources, page  # noqa: E402
from meta_train.baselines import opponent  # noqa: E402
from meta_train.comparison import Row, renamed  # noqa: E402
from meta_train.errors import MetaTrainError  # noqa: E402
from meta_train.plot import plot, plot_speed_ups  # noqa: E402

DOCS = ROOT / "docs"
DIGITS = 5
PANELS = 6
PLACES = ("--out", "--cache", "--folder")
"""Options of commands that say where files are, and nothing about results."""


def rounded(plain: Any) -> Any:
    """Plain data with numbers of few digits; those that are not finite become null.

    >>> rounded({"a": [1.2345678, 10], "b": math.nan})
    {'a': [1.2346, 10], 'b': None}
    """
    if isinstance(plain, Mapping):
        return {key: rounded(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [rounded(value) for value in plain]
    if isinstance(plain, float):
        return float(f"{plain:.{DIGITS}g}") if math.isfinite(plain) else None
    return plain


def without_places(command: str) -> str:
    """A command without the options that say where files are.

    >>> without_places("python -m benchmarks.paper --scale small --out=a --folder b")
    'python -m benchmarks.paper --scale small'

    Raises:
        MetaTrainError: if it names another place of one machine.
    """
    kept: list[str] = []
    skip = False
    for word in shlex.split(command):
        if not (skip or word.split("=")[0] in PLACES):
            kept.append(word)
        skip = word in PLACES
    absolute = [word for word in kept if word.startswith(("/", "~"))]
    if absolute:
        raise MetaTrainError(
            f"the command of these results holds a place of one machine, {absolute[0]}.\n"
            "  Run it again with the name of a rule or a relative path; what is in the cache is "
            "not computed again."
        )
    return shlex.join(kept)


def compact_evaluation(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs of an `evaluation.json`."""
    names, rows = [field.name for field in fields(Row)], map(renamed, content["rows"])
    options, settings = content["options"], opponent(content["reference"]).settings
    compact = {
        "command": without_places(content["command"]),
        **{name: content[name] for name in ("reference", "criterion", "planned")},
        **{name: options[name] for name in ("opponents", "screen", "seed", "lr")},
        "settings": len(settings),
        "lrs": sorted({setting.lr for setting in settings}),
        "pictured": [],
        "rows": rounded([{name: row[name] for name in names} for row in rows]),
    }
    return compact | {"pictured": pictured(compact) if content.get("curves") else []}


def pictured(compact: Mapping[str, Any]) -> list[list[str]]:
    """Suite and name of some tasks, evenly from the fastest to the slowest of the chosen rule."""
    found = results_of(comparison_of(compact))
    rule = chosen(list(found), compact["opponents"])
    if rule is None:
        return []
    ordered = sorted(found[rule], key=lambda result: (-result.row.speed_up, result.ratio))
    count = min(PANELS, len(ordered))
    places = [round(n * (len(ordered) - 1) / max(1, count - 1)) for n in range(count)]
    return [[ordered[place].row.suite, ordered[place].row.task] for place in places]


def compact_paper(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs of the JSON file of `benchmarks.paper`."""
    scale = {name: content["scale"][name] for name in ("note", "networks", "budgets")}
    return with_command(content, **scale, found=content["found"])


def with_command(content: Mapping[str, Any], **kept: Any) -> dict[str, Any]:
    """The command of a file, and what is kept of it, rounded."""
    return {"command": without_places(content["command"]), **rounded(kept)}


COMPACT: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "evaluation": compact_evaluation,
    "paper": compact_paper,
    "ablation": lambda content: with_command(content, found=content["found"]),
    "workloads": lambda content: with_command(
        content, summaries=content["summaries"], rows=content["rows"]
    ),
}
"""What makes each kind of file small."""


def as_text(content: Mapping[str, Any]) -> str:
    """JSON text with a line for each value, and one for each entry of a list of objects."""

    def line(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(json.dumps(entry, allow_nan=False) for entry in value) + "\n]"
        return json.dumps(value, allow_nan=False)

    lines = ",\n".join(f"{json.dumps(key)}: {line(value)}" for key, value in content.items())
    return f"{{\n{lines}\n}}\n"


def read(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        MetaTrainError: if it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MetaTrainError(
            f"cannot read `{path}`: {error}.\n  Give a JSON file of evaluate, paper or ablation."
        ) from error


def keep(kind: str, path: Path, folder: Path) -> dict[str, Any]:
    """Make a file small, keep it in a folder, and return all that was in it.

    Raises:
        MetaTrainError: if it is not of that kind.
    """
    content: dict[str, Any] = read(path)
    try:
        compact = COMPACT[kind](content)
    except (KeyError, TypeError) as error:
        raise MetaTrainError(
            f"`{path}` is not what the {kind} has written ({error!r}).\n"
            "  Give the JSON file of the present version."
        ) from error
    name = path.stem if path.stem.startswith(kind) else f"{kind}-{path.stem}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind if kind == 'evaluation' else name}.json").write_text(as_text(compact))
    return content


def sources(folder: Path) -> Sources:
    """All that is in the folder of compact files."""
    evaluation, remarks = folder / "evaluation.json", folder / "remarks.md"
    kinds = (
        {path.stem: read(path) for path in sorted(folder.glob(f"{kind}*.json"))}
        for kind in ("paper", "ablation", "workloads")
    )
    text = remarks.read_text(encoding="utf-8") if remarks.is_file() else ""
    return Sources(read(evaluation) if evaluation.is_file() else None, *kinds, text)


def draw_curves(content: Mapping[str, Any], compact: Mapping[str, Any], path: Path) -> None:
    """Draw the curves of the pictured tasks, which only the whole `evaluation.json` has."""
    names = short_names([row["task"] for row in compact["rows"]])
    curves = {
        placed(names[task], suite): content["curves"][f"{suite}: {task}" if suite else task]
        for suite, task in compact["pictured"]
    }
    if curves:
        plot(curves, path)


def make(
    evaluation: Path | None,
    papers: list[Path],
    ablations: list[Path],
    docs: Path = DOCS,
    workloads: Sequence[Path] = (),
) -> None:
    """Write compact files, pictures and the page.

    Args:
        evaluation: an `evaluation.json`, or None to use the one kept before.
        papers: files of `benchmarks.paper`.
        ablations: files of `benchmarks.ablation`.
        docs: folder to write to.
        workloads: reports of `benchmarks.workloads`.

    Raises:
        MetaTrainError: if a file is not what it should be, or there are no results at all.
    """
    folder, images = docs / "results", docs / "images"
    whole = keep("evaluation", evaluation, folder) if evaluation else None
    kinds = {"paper": papers, "ablation": ablations, "workloads": workloads}
    for kind, paths in kinds.items():
        for path in paths:
            keep(kind, path, folder)
    found = sources(folder)
    if not (found.evaluation or found.papers or found.ablations or found.workloads):
        raise MetaTrainError(
            f"there are no results in {folder}.\n  First: python -m meta_train evaluate --suites "
            "near kin far large, and give its evaluation.json."
        )
    images.mkdir(parents=True, exist_ok=True)
    if found.evaluation is not None:
        plot_speed_ups(comparison_of(found.evaluation), images / "speed_ups.png")
        if whole is not None:
            draw_curves(whole, found.evaluation, images / "curves.png")
    (docs / "results.md").write_text(page(found), encoding="utf-8")


def main() -> None:
    """Read the arguments and write the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("evaluation", type=Path, nargs="?", help="evaluation.json of evaluate")
    parser.add_argument("--paper", type=Path, nargs="+", default=[], help="of benchmarks.paper")
    parser.add_argument("--ablation", type=Path, nargs="+", default=[], help="of its benchmark")
    parser.add_argument("--workloads", type=Path, nargs="+", default=[], help="their report.json")
    options = parser.parse_args()
    try:
        make(options.evaluation, options.paper, options.ablation, workloads=options.workloads)
    except MetaTrainError as error:
        sys.exit(str(error))
    print(f"Wrote {DOCS / 'results.md'}.")


if __name__ == "__main__":
    main()
