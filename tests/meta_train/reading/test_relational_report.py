import json

import networkx
import numpy
import pytest
from scipy import stats

from meta_train.reading.relational_report import (
    Point,
    best,
    draw_map,
    fitted,
    markdown,
    report,
    sweet_spot,
)
from meta_train.tasks.ws_flex import measure
from meta_train.tasks.ws_sweep import named


def point(name, clustering, path_length, tests, held_out=None):
    return Point(name, 8.0, 0.1, clustering, path_length, 64, 1000, tests, held_out or tests, 1.0)


POINTS = [
    point("complete", 1.0, 1.0, (33.3, 33.5, 33.1, 33.4)),
    point("lattice", 0.65, 4.4, (32.9, 33.0, 32.8, 32.9)),
    point("small_world", 0.4, 2.4, (32.3, 32.4, 32.2, 32.3)),
    point("0", 0.3, 2.3, (32.4, 32.3, 32.3, 32.35)),
]


def test_the_sweet_spot_is_what_is_not_significantly_worse_than_the_best():
    assert [found.name for found in sweet_spot(POINTS)] == ["small_world", "0"]
    noisy = point("1", 0.3, 2.3, (30.0, 36.0, 33.0, 33.0))  # its mean is high, but so is its spread
    assert "1" in [found.name for found in sweet_spot([*POINTS, noisy])]


def test_the_best_graph_is_chosen_on_held_out_images():
    lucky = point("lucky", 0.5, 2.0, (30.0,) * 4, held_out=(40.0,) * 4)
    assert best([*POINTS, lucky]).name == "small_world"


def test_with_one_seed_there_are_no_intervals():
    single = [point(p.name, p.clustering, p.path_length, p.test_errors[:1]) for p in POINTS]
    assert [found.name for found in sweet_spot(single)] == ["small_world"]
    text = markdown(single)
    assert "With one seed there are no intervals" in text
    assert "±" not in text


def test_equal_errors_are_no_sweet_spot_of_one():
    alike = [point(str(number), 0.1 * number, 2.0, (32.0,) * 3) for number in range(3)]
    assert len(sweet_spot(alike)) == 3
    assert len(sweet_spot([*alike, point("worse", 0.5, 2.0, (33.0,) * 3)])) == 3


def test_intervals_are_those_of_students_t():
    text = markdown(POINTS)
    # Mean 33.325, standard deviation 0.171, 4 seeds: 3.182 * 0.171 / 2.
    assert "33.33 ± 0.27" in text or "33.32 ± 0.27" in text
    assert "| `lattice` |" in text
    complete, lattice = (p.test_errors for p in POINTS[:2])
    low, high = stats.ttest_ind(lattice, complete, equal_var=False).confidence_interval(0.95)
    assert f"[{low:+.2f}, {high:+.2f}]" in text


def test_a_quadratic_error_is_fitted_exactly():
    random = numpy.random.default_rng(0)
    places = random.uniform(size=(9, 2)) * (1, 3) + (0, 1)

    def true(c, length):
        return 30 + c - 2 * length + 0.5 * c * length + c * c + length**2

    known = [point(str(n), *place, (float(true(*place)),)) for n, place in enumerate(places)]
    fits = fitted(known)
    assert fits["both"].r_squared == pytest.approx(1)
    assert fits["both"].coefficients == pytest.approx((30, 1, -2, 1, 0.5, 1))
    assert fits["both"].at(*places.T) == pytest.approx(true(*places.T))
    assert fits["clustering"].r_squared < fits["path length"].r_squared < 1
    assert "both" not in fitted(known[:6])


def test_files_hold_what_the_table_says(tmp_path):
    text = report(POINTS, {"out": tmp_path, "seeds": 4}, tmp_path)
    assert (tmp_path / "relational.md").read_text() in text
    content = json.loads((tmp_path / "relational.json").read_text())
    assert content["best"] == "small_world"
    assert [entry["name"] for entry in content["points"]] == [p.name for p in POINTS]
    assert (tmp_path / "map.png").stat().st_size > 10_000
    assert list((tmp_path / "board").iterdir())


def test_the_map_has_a_dot_for_each_graph():
    figure = draw_map(POINTS)
    dots = [c.get_offsets() for c in figure.axes[0].collections if len(c.get_offsets()) == 1]
    assert sorted(tuple(offset[0]) for offset in dots) == sorted(
        (p.clustering, p.path_length) for p in POINTS
    )
    (low, high), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert all(low < p.clustering < high and bottom < p.path_length < top for p in POINTS)


def test_measures_of_graphs_with_names_are_networkx_own():
    for name in ("complete", "lattice", "small_world", "random"):
        graph = named(name, 64).graph
        known = networkx.from_numpy_array(graph.astype(int))
        assert measure(graph) == pytest.approx(
            (networkx.average_clustering(known), networkx.average_shortest_path_length(known))
        )
