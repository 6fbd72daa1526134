"""The map of test errors over the plane of clustering and path length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meta_train.plot import figure_class
from meta_train.reading.relational_scores import Point, best, fitted, sweet_spot


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
