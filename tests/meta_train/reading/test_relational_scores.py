import numpy
import pytest

from meta_train.reading.relational_scores import best, fitted, sweet_spot
from tests.meta_train.reading.graphs_with_errors import POINTS, point


def test_the_sweet_spot_is_what_is_not_significantly_worse_than_the_best():
    assert [found.name for found in sweet_spot(POINTS)] == ["small_world", "0"]
    noisy = point("1", 0.3, 2.3, (30.0, 36.0, 33.0, 33.0))  # its mean is high, but so is its spread
    assert "1" in [found.name for found in sweet_spot([*POINTS, noisy])]


def test_the_best_graph_is_chosen_on_held_out_images():
    lucky = point("lucky", 0.5, 2.0, (30.0,) * 4, held_out=(40.0,) * 4)
    assert best([*POINTS, lucky]).name == "small_world"


def test_equal_errors_are_no_sweet_spot_of_one():
    alike = [point(str(number), 0.1 * number, 2.0, (32.0,) * 3) for number in range(3)]
    assert len(sweet_spot(alike)) == 3
    assert len(sweet_spot([*alike, point("worse", 0.5, 2.0, (33.0,) * 3)])) == 3


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
