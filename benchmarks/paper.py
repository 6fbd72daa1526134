"""The table of the neural-graphs paper: meta-train on FashionMNIST, test on CIFAR-10 and transfer.

    python -m benchmarks.paper                                  # what two CPU cores can do
    python -m benchmarks.paper --scale full --device cuda       # the paper's setup, for a GPU

Every method is meta-trained from several seeds; each theta then trains the same networks, beside a
tuned Adam. Killed at any moment, the same command goes on. Several processes share the work if each
is given some of the `--methods` or `--seeds`, and one of them makes the tables in the end:

    python -m benchmarks.paper --methods ff nfn --only meta-train evaluate
    python -m benchmarks.paper --only table

Source: Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations of Neural
Networks", ICLR 2024, section on learning to optimize.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, get_args

import torch
import tyro

from benchmarks.paper_scales import METHODS, SCALES, Method, Scale, Table
from benchmarks.pieces import Figures, Piece, collected, write
from meta_train.baselines import Sweep, opponent, tuned
from meta_train.curves import Setting
from meta_train.distributed import world
from meta_train.table import table_lines
from meta_train.tasks.family import family_of
from ngopt.rules.library import load_rule

SCREEN = 1
"""Number of problems on which all of Adam's settings are tried before the best are on all."""

COLUMNS = 5
"""Number of networks in a table, at most, so that a page can show it; others have the next."""

Phase = Literal["meta-train", "evaluate", "table"]


@dataclass(frozen=True)
class Options:
    """The neural-graphs paper's table, and its transfer over width and depth.

    Args:
        scale: `full` is the paper's; `small` is for CPU cores, five minutes for each meta-training.
        methods: rows of the tables.
        seeds: of meta-training; each method is meta-trained once with each.
        only: of `meta-train`, `evaluate` and `table`, what to do.
        tables: of `paper` and `transfer`, what to evaluate.
        folder: of runs, cached results and figures; by default `runs/paper-` and the scale.
        out: what to write, with endings `.json` and `.md`; by default `results/paper-` and the
            scale.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
    """

    scale: Literal["small", "full"] = "small"
    methods: tuple[Method, ...] = get_args(Method)
    seeds: tuple[int, ...] = (0, 1, 2)
    only: tuple[Phase, ...] = ("meta-train", "evaluate", "table")
    tables: tuple[Table, ...] = ("paper", "transfer")
    folder: Path | None = None
    out: Path | None = None
    device: str = "auto"


def run(options: Options, scale: Scale) -> None:
    """Do what is left to do.

    Args:
        options: what to do.
        scale: how large everything is.
    """
    folder = options.folder or Path("runs") / f"paper-{options.scale}"
    pieces = [
        Piece.of(method, seed, scale.configs[method], folder, options.device)
        for method in options.methods
        if method in scale.configs
        for seed in options.seeds
    ]
    if "meta-train" in options.only:
        for piece in pieces:
            piece.meta_train()
    if "evaluate" in options.only:
        for table in options.tables:
            evaluate(table, pieces, options.methods, folder, scale, options.device)
    if "table" in options.only:
        out = options.out or Path("results") / f"paper-{options.scale}"
        found = collected(folder / "figures")
        write(out, {"scale": asdict(scale), "found": found}, markdown(found, scale))


def contestants(
    pieces: Sequence[Piece], methods: Sequence[str]
) -> Iterator[tuple[Sweep, dict[str, Any]]]:
    """Sweeps and facts: of what is there anyway, if wanted, and of the pieces that are finished."""
    if "adam" in methods:
        yield opponent("adam"), {"method": "adam", "seed": None}
    if "default" in methods:
        shipped = load_rule("default")
        facts = {"method": "default", "seed": None}
        yield Sweep("default", shipped, (Setting(shipped.lr, weight_decay=None),)), facts
    for piece in pieces:
        found = piece.finished()
        if found is None:
            print(f"{piece.method}, seed {piece.seed}: not meta-trained yet.")
            continue
        rule, facts = found
        yield Sweep(piece.method, rule, (Setting(rule.lr, weight_decay=None),)), facts


def evaluate(
    table: Table,
    pieces: Sequence[Piece],
    methods: Sequence[str],
    folder: Path,
    scale: Scale,
    device: str,
) -> None:
    """Train the networks of a table with all contestants, and keep the figures."""
    with world(device) as processes:
        for sweep, facts in contestants(pieces, methods):
            sweep.rule.to(processes.device)
            name = "-".join(str(facts[key]) for key in ("method", "seed") if facts[key] is not None)
            figures = Figures(folder / "figures" / f"{name}.json", sweep.rule, facts)
            for network in scale.networks:
                if network.table != table:
                    continue
                task = family_of(network.family).sample(torch.Generator().manual_seed(0))
                best = tuned(
                    sweep,
                    task.to(processes.device),
                    scale.budgets[table],
                    "accuracy",
                    folder / "cache",
                    SCREEN,
                )
                # The metrics of a diverged run are NaN: it has learned nothing.
                accuracy = best.curve.measured["test"]["accuracy"].nan_to_num(0.0)
                figure = {
                    "accuracy": accuracy.tolist(),
                    "train": best.curve.final.tolist(),
                    "diverged": int(best.curve.diverged.sum()),
                    "setting": str(best.setting),
                    "at_edge": best.at_edge,
                }
                figures.add(network.name, figure)
                print(f"{name}, {network.name}: {100 * float(accuracy.mean()):.2f} %")


def markdown(found: Sequence[Mapping[str, Any]], scale: Scale) -> str:
    """The tables.

    Args:
        found: contents of the files of figures.
        scale: how large everything is.
    """
    by_method = {
        method: [content for content in found if content["method"] == method]
        for method in METHODS
        if any(content["method"] == method for content in found)
    }
    lines = ["# From FashionMNIST to CIFAR-10", "", scale.note]
    for table, title in (("paper", "The paper's table"), ("transfer", "Transfer")):
        names = [network.name for network in scale.networks if network.table == table]
        budget = scale.budgets[table]
        lines += [
            "",
            f"## {title}",
            "",
            f"Test accuracy in % after {budget.steps} steps. Mean over meta-seeds and inner runs "
            f"(of each: {budget.problems}), and standard deviation over meta-seeds, or over inner "
            "runs where there is only one meta-seed or none; in brackets the number of meta-seeds "
            "where not all have been evaluated. A run that has diverged counts as 0.",
        ]
        for start in range(0, len(names), COLUMNS):
            shown = names[start : start + COLUMNS]
            rows = [
                [METHODS[method], *(cell(contents, name) for name in shown)]
                for method, contents in by_method.items()
            ]
            lines += ["", *table_lines(["", *shown], rows)]
    return "\n".join([*lines, "", *_costs(by_method), "", *_adam(by_method.get("adam")), ""])


def cell(contents: Sequence[Mapping[str, Any]], name: str) -> str:
    """Mean and standard deviation of the accuracies on a network, as text.

    Where some of the meta-seeds are still to be evaluated, the number of the others is added.
    """
    runs = [
        figures[name]["accuracy"]
        for figures in (content["figures"] for content in contents)
        if name in figures
    ]
    if not runs:
        return "-"
    values = [100 * value for value in (map(fmean, runs) if len(runs) > 1 else runs[0])]
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}{f' ({len(runs)})' * (len(runs) < len(contents))}"


def _costs(by_method: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    rows = [
        [
            METHODS[method],
            f"`{contents[0]['rule']}`",
            f"{contents[0]['weights']:,}",
            ", ".join(str(content["seed"]) for content in contents),
            f"{contents[0]['outer_steps']:,}",
            f"{contents[0]['inner_steps']:,}",
            f"{fmean(content['seconds'] for content in contents) / 60:.1f}",
        ]
        for method, contents in by_method.items()
        if contents[0]["seed"] is not None
    ]
    head = ["", "rule", "weights", "meta-seeds", "outer steps", "inner steps", "minutes"]
    return ["## Meta-training", "", *table_lines(head, rows)]


def _adam(contents: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """How Adam was tuned."""
    if not contents:
        return []
    settings = [
        f"{name}: {figure['setting']}{' (the edge of what was tried)' * figure['at_edge']}"
        for name, figure in contents[0]["figures"].items()
    ]
    return [
        "Adam has the best of 14 settings by held-out accuracy on each network, the rules are not "
        f"tuned. {'; '.join(settings)}."
    ]


def main() -> None:
    """Read the options and run."""
    options = tyro.cli(Options, description=__doc__)
    run(options, SCALES[options.scale])


if __name__ == "__main__":
    main()
