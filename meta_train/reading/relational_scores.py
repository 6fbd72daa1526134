"""What is known of graphs from the errors of their networks: the best, the sweet spot, and fits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
"""Of the test by which a graph is worse than the best, and one minus that of intervals."""

FITS = {
    "clustering": ("1", "C", "C^2"),
    "path length": ("1", "L", "L^2"),
    "both": ("1", "C", "L", "C^2", "C L", "L^2"),
}
"""Terms of the fits of the error, in clustering C and path length L."""


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


class Gap(NamedTuple):
    """Difference of two means, its standard error, and its degrees of freedom by Welch."""

    size: float
    error: float
    freedom: float


def gap_between(point: Point, other: Point) -> Gap:
    """Compare the mean test errors of two graphs with two seeds or more."""
    variances, freedoms = [], []
    for errors in (point.test_errors, other.test_errors):
        variances.append(float(np.var(errors, ddof=1)) / len(errors))
        freedoms.append(len(errors) - 1)
    total = sum(variances)
    parts = sum(v * v / freedom for v, freedom in zip(variances, freedoms, strict=True))
    return Gap(point.mean - other.mean, math.sqrt(total), total * total / parts if parts else 1.0)


def _p_value(point: Point, first: Point) -> float:
    """How likely so much higher a mean would be, were there no difference."""
    gap = gap_between(point, first)
    if not gap.error:  # no seed differs from another
        return float(gap.size <= 0)
    return float(stats.t.sf(gap.size / gap.error, gap.freedom))
