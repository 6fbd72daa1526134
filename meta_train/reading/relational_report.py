"""Tables and the map of networks that are wired as graphs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from meta_train.board.panel import open_writer
from meta_train.command import command
from meta_train.commit import commit
from meta_train.plot import figure_class
from meta_train.table import table_lines

LEVEL = 0.05
"""Of the test by which a graph is worse than the best, and one minus that of intervals."""

REFERENCE = "complete"

FITS = {
    "clustering": ("1", "C", "C^2"),
    "path length": ("1", "L", "L^2"),
    "both": ("1", "C", "L", "C^2", "C L", "L^2"),
}
"""Terms of the fits of the error, in clustering C and path length L."""

CAPTION = (
    "Test error in percent after the last epoch: mean over seeds, with its 95 % interval "
    "(Student's t). Against complete: difference of the means, with its interval (Welch's t). "
    "Sweet spot: graphs whose test error is not significantly above (one-sided t test, p < 0.05) "
    "that of the graph with the lowest error on held-out images. All networks take at least as "
    "many operations as the complete one, and those of the next smaller width take fewer."
)


@dataclass(frozen=True)
class Point:
    """A graph, and what its networks reached.

    Args:
        name: of the graph, or its number in the sweep.
        degree: average number of neighbours of a node.
        rewiring: probability that an edge leads anywhere.
        clustering: clustering coefficient.
        path_length: average path length.
        width: of the wired layers.
        operations: multiplications for one image.
        test_errors: of each seed, in percent.
        held_out_errors: of each seed, in percent.
        seconds: of training a network, on average.
    """

    name: str
    degree: float
    rewiring: float
    clustering: float
    path_length: float
    width: int
    operations: int
    test_errors: tuple[float, ...]
    held_out_errors: tuple[float, ...]
    seconds: float

    @property
    def mean(self) -> float:
        """Mean test error."""
        return float(np.mean(self.test_errors))


@dataclass(frozen=True)
class Fit:
    """Least squares of mean test errors over the plane of measures.

    Args:
        terms: in C, the clustering, and L, the path length.
        coefficients: of the terms.
        r_squared: share of the variance over graphs that is explained.
    """

    terms: tuple[str, ...]
    coefficients: tuple[float, ...]
    r_squared: float

    def at(self, clustering: NDArray[Any], path_length: NDArray[Any]) -> NDArray[Any]:
        """Fitted error at places of the plane."""
        columns = _columns(self.terms, clustering, path_length)
        return np.tensordot(np.asarray(self.coefficients), columns, 1)


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


def best(points: Sequence[Point]) -> Point:
    """Return the graph with the lowest error on held-out images, which no figure is taken from."""
    return min(points, key=lambda point: float(np.mean(point.held_out_errors)))


def sweet_spot(points: Sequence[Point]) -> list[Point]:
    """Graphs whose test error is not significantly above that of the best, the best included."""
    first = best(points)
    if len(first.test_errors) == 1:
        return [first]
    return [point for point in points if point is first or _p_value(point, first) >= LEVEL]


def fitted(points: Sequence[Point]) -> dict[str, Fit]:
    """Fit mean errors; those fits are left out that have as many terms as there are graphs."""
    clustering, path_length, errors = np.array(
        [(point.clustering, point.path_length, point.mean) for point in points]
    ).T
    spread = float(((errors - errors.mean()) ** 2).sum())
    fits = {}
    for name, terms in FITS.items():
        if len(points) <= len(terms) or not spread:
            continue
        columns = _columns(terms, clustering, path_length).T
        coefficients, *_ = np.linalg.lstsq(columns, errors, rcond=None)
        left = float(((errors - columns @ coefficients) ** 2).sum())
        fits[name] = Fit(terms, tuple(map(float, coefficients)), 1 - left / spread)
    return fits


def _columns(terms: Sequence[str], c: NDArray[Any], l: NDArray[Any]) -> NDArray[Any]:  # noqa: E741
    """Values of terms, (terms, ...)."""
    values = {"1": np.ones_like(c), "C": c, "L": l, "C^2": c * c, "C L": c * l, "L^2": l * l}
    return np.stack([values[term] for term in terms])


class _Gap(NamedTuple):
    """Difference of two means, its standard error, and its degrees of freedom by Welch."""

    size: float
    error: float
    freedom: float


def _gap(point: Point, other: Point) -> _Gap:
    variances, freedoms = [], []
    for errors in (point.test_errors, other.test_errors):
        variances.append(float(np.var(errors, ddof=1)) / len(errors))
        freedoms.append(len(errors) - 1)
    total = sum(variances)
    parts = sum(v * v / freedom for v, freedom in zip(variances, freedoms, strict=True))
    return _Gap(point.mean - other.mean, math.sqrt(total), total * total / parts if parts else 1.0)


def _interval(errors: Sequence[float]) -> str:
    if len(errors) == 1:
        return ""
    error = float(np.std(errors, ddof=1)) / math.sqrt(len(errors))
    return f" ± {stats.t.ppf(1 - LEVEL / 2, len(errors) - 1) * error:.2f}"


def _difference(point: Point, reference: Point) -> str:
    if len(point.test_errors) == 1:
        return f"{point.mean - reference.mean:+.2f}"
    gap = _gap(point, reference)
    half = float(stats.t.ppf(1 - LEVEL / 2, gap.freedom)) * gap.error
    return f"{gap.size:+.2f} [{gap.size - half:+.2f}, {gap.size + half:+.2f}]"


def _p_value(point: Point, first: Point) -> float:
    """How likely so much higher a mean would be, were there no difference."""
    gap = _gap(point, first)
    if not gap.error:  # no seed differs from another
        return float(gap.size <= 0)
    return float(stats.t.sf(gap.size / gap.error, gap.freedom))


def draw_map(points: Sequence[Point]) -> Any:
    """Draw test errors over the plane of clustering and path length.

    The colour of a dot is the mean test error; dots of the sweet spot have a black rim, the best
    graph is a star. Lines are the fit over both measures, near graphs.

    Returns:
        A figure of matplotlib.
    """
    figure = figure_class()(figsize=(7, 5), dpi=150, layout="constrained")
    panel = figure.subplots()
    errors = [point.mean for point in points]
    spot, first = sweet_spot(points), best(points)
    style = {"cmap": "viridis_r", "vmin": min(errors), "vmax": max(errors)}
    _draw_fit(panel, points, style)
    for point in points:
        rim = "black" if point in spot else "lightgrey"
        panel.scatter(
            point.clustering,
            point.path_length,
            c=[point.mean],
            marker="*" if point is first else "o",
            s=160 if point is first else 60,
            edgecolors=rim,
            linewidths=1.5 if point in spot else 0.5,
            zorder=3,
            **style,
        )
        if not point.name.isdecimal():
            panel.annotate(
                f"{point.name.replace('_', ' ')}: {point.mean:.2f} %",
                (point.clustering, point.path_length),
                xytext=(6, 6),
                textcoords="offset points",
                fontsize=8,
            )
    shown = panel.scatter([], [], c=[], **style)
    figure.colorbar(shown, ax=panel, label="test error, %")
    panel.set_xlabel("clustering coefficient")
    panel.set_ylabel("average path length")
    for low, high, setter in (
        (min(p.clustering for p in points), max(p.clustering for p in points), panel.set_xlim),
        (min(p.path_length for p in points), max(p.path_length for p in points), panel.set_ylim),
    ):
        room = 0.1 * (high - low) + 0.02
        setter(low - room, high + 3 * room)  # names stand to the right of dots, and above
    panel.set_title("Rim: sweet spot. Star: best graph on held-out images.", fontsize=9)
    panel.grid(alpha=0.3, linewidth=0.5)
    return figure


def _draw_fit(panel: Any, points: Sequence[Point], style: Mapping[str, Any]) -> None:
    fit = fitted(points).get("both")
    if fit is None:
        return
    known = np.array([(point.clustering, point.path_length) for point in points])
    low, high = known.min(0), known.max(0)
    across, along = np.meshgrid(*np.linspace(low, high, 80).T)
    places = np.stack([across, along], -1)
    away = np.abs((places[:, :, None] - known) / (high - low)).max(-1).min(-1)
    heights = np.ma.masked_where(away > 0.15, fit.at(across, along))
    panel.contour(across, along, heights, levels=8, linewidths=0.7, alpha=0.7, **style)
