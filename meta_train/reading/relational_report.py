"""Tables and figures of networks that are wired as graphs, in files."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from meta_train.board.panel import open_writer
from meta_train.provenance import command, commit
from meta_train.reading.relational_map import draw_map
from meta_train.reading.relational_scores import (
    LEVEL,
    Point,
    best,
    fitted,
    gap_between,
    sweet_spot,
)
from meta_train.table import table_lines

REFERENCE = "complete"

CAPTION = (
    "Test error in percent after the last epoch: mean over seeds, with its 95 % interval "
    "(Student's t). Against complete: difference of the means, with its interval (Welch's t). "
    "Sweet spot: graphs whose test error is not significantly above (one-sided t test, p < 0.05) "
    "that of the graph with the lowest error on held-out images. All networks take at least as "
    "many operations as the complete one, and those of the next smaller width take fewer."
)


def report(points: Sequence[Point], options: Mapping[str, Any], out: Path) -> str:
    """Write tables, figures and the map.

    Args:
        points: all graphs.
        options: of the command.
        out: folder.

    Returns:
        The tables as text.
    """
    text = markdown(points)
    fits = fitted(points)
    content = {
        "command": command(),
        "commit": commit(),
        "options": {key: str(v) if isinstance(v, Path) else v for key, v in options.items()},
        "points": [asdict(point) for point in points],
        "fits": {name: asdict(fit) for name, fit in fits.items()},
        "best": best(points).name,
        "sweet_spot": [point.name for point in sweet_spot(points)],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "relational.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    (out / "relational.md").write_text(text, encoding="utf-8")
    if not find_spec("matplotlib"):
        return f'{text}\nNo map: for that, pip install "ngopt[draw]".'
    figure = draw_map(points)
    figure.savefig(out / "map.png")
    if find_spec("tensorboard"):
        with open_writer(out / "board", 0) as writer:
            writer.add_figure("relational/map", figure)
    return f"{text}\nWritten to {out}."


def markdown(points: Sequence[Point]) -> str:
    """The table of all graphs, best first, and the fits."""
    reference = next((point for point in points if point.name == REFERENCE), None)
    spot = sweet_spot(points)
    head = ["graph", "degree", "rewiring", "clustering", "path length", "width", "test error"]
    head += ["held-out error", "against complete", "sweet spot", "seconds"]
    rows = [
        [
            f"`{point.name}`",
            f"{point.degree:.1f}",
            f"{point.rewiring:.3f}",
            f"{point.clustering:.3f}",
            f"{point.path_length:.3f}",
            str(point.width),
            f"{point.mean:.2f}{_interval(point.test_errors)}",
            f"{np.mean(point.held_out_errors):.2f}",
            "" if reference in (None, point) else _difference(point, reference),
            "yes" if point in spot else "",
            f"{point.seconds:.0f}",
        ]
        for point in sorted(points, key=lambda point: point.mean)
    ]
    seeds = len(points[0].test_errors)
    lines = ["# Networks wired as graphs", "", CAPTION, ""]
    lines += [f"{len(points)} graphs, {seeds} seed{'s' * (seeds > 1)}.", ""]
    lines += table_lines(head, rows)
    if seeds == 1:
        lines += ["", "With one seed there are no intervals, and the sweet spot is the best graph."]
    for name, fit in fitted(points).items():
        sum_of_terms = " ".join(
            f"{coefficient:+.3f} {term}".removesuffix(" 1")
            for coefficient, term in zip(fit.coefficients, fit.terms, strict=True)
        )
        lines += ["", f"Fit over {name}: error = {sum_of_terms} (R^2 {fit.r_squared:.2f})."]
    return "\n".join([*lines, ""])


def _interval(errors: Sequence[float]) -> str:
    if len(errors) == 1:
        return ""
    error = float(np.std(errors, ddof=1)) / math.sqrt(len(errors))
    return f" ± {stats.t.ppf(1 - LEVEL / 2, len(errors) - 1) * error:.2f}"


def _difference(point: Point, reference: Point) -> str:
    if len(point.test_errors) == 1:
        return f"{point.mean - reference.mean:+.2f}"
    gap = gap_between(point, reference)
    half = float(stats.t.ppf(1 - LEVEL / 2, gap.freedom)) * gap.error
    return f"{gap.size:+.2f} [{gap.size - half:+.2f}, {gap.size + half:+.2f}]"
