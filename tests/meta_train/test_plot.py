import sys
from types import SimpleNamespace

import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from meta_train.errors import MetaTrainError
from meta_train.plot import plot, plot_speed_ups

CURVES = {
    "mlp(width=8)": {"adamw": [4.0, 2.0, 1.0], "ours": [4.0, 1.0, 0.5]},
    "quadratic": {"adamw": [1.0, 0.1, 0.01]},
}


def test_picture_has_a_panel_for_each_task(tmp_path, monkeypatch):
    plot(CURVES, tmp_path / "two.png")
    plot({"quadratic": CURVES["quadratic"]}, tmp_path / "one.png")
    two, one = (imread(tmp_path / f"{name}.png") for name in ("two", "one"))
    assert two.shape[1] == 2 * one.shape[1]
    assert two.shape[0] == one.shape[0]
    assert two.std() > 0.01


def test_draws_each_curve_smoothed_under_its_name(tmp_path, monkeypatch):
    drawn = {}
    original = Axes.plot

    def spy(self, steps, losses, **style):
        drawn[style["label"]] = (list(steps), list(losses))
        return original(self, steps, losses, **style)

    monkeypatch.setattr(Axes, "plot", spy)
    plot({"task": {"adam": [4.0] * 19 + [2.0] * 2}}, tmp_path / "curves.png")
    assert drawn == {"adam": (list(range(1, 22)), [4.0] * 19 + [3.0, 2.0])}


def test_unfilled_places_stay_empty(tmp_path):
    many = {f"task {number}": CURVES["quadratic"] for number in range(4)}
    plot(many, tmp_path / "four.png")
    picture = imread(tmp_path / "four.png")
    height, width = picture.shape[:2]
    assert picture[height // 2 :, width // 2 :].min() == 1.0
    assert picture[: height // 2, width // 2 :].min() < 1.0


SPEEDS = {
    ("near", "adamw"): [1.0, 1.0, 1.0],
    ("near", "ours"): [0.5, 2.0, 4.0],
    ("far", "adamw"): [1.0, 1.0],
    ("far", "ours"): [0.0, 3.0],
}
MEANS = {key: sum(speeds) / len(speeds) for key, speeds in SPEEDS.items()}


def compared(speeds):
    """What a picture needs of a comparison."""
    rows = [
        SimpleNamespace(suite=suite, contestant=name, speed_up=speed)
        for (suite, name), listed in speeds.items()
        for speed in listed
    ]
    summaries = [
        SimpleNamespace(suite=suite, contestant=name, speed_up=MEANS[suite, name])
        for suite, name in speeds
    ]
    return SimpleNamespace(reference="adamw", rows=rows, summaries=summaries)


@pytest.fixture
def points(monkeypatch):
    """What is drawn: markers, by name, and lines."""
    drawn = {"o": [], "v": [], "line": []}
    original = Axes.plot

    def spy(self, x, y, marker="line", **style):
        if marker in drawn:
            drawn[marker].append((x, y))
        return original(self, x, y, *[marker] * (marker != "line"), **style)

    monkeypatch.setattr(Axes, "plot", spy)
    return drawn


def test_speeds_are_dots_by_suite_and_means_are_lines(tmp_path, points):
    plot_speed_ups(compared(SPEEDS), tmp_path / "speed_ups.png")
    assert [y for _, y in points["o"]] == [0.5, 2.0, 4.0, 3.0]
    assert [round(x) for x, _ in points["o"]] == [0, 0, 0, 1]
    assert [y for _, y in points["line"]] == [[MEANS["near", "ours"]] * 2, [1.5, 1.5]]
    ((x, never),) = points["v"]
    assert round(x) == 1
    assert 0 < never < 0.5
    assert imread(tmp_path / "speed_ups.png").std() > 0.01


def test_the_picture_is_wider_with_more_suites(tmp_path):
    near = {key: speeds for key, speeds in SPEEDS.items() if key[0] == "near"}
    for name, speeds in (("one", near), ("two", SPEEDS)):
        plot_speed_ups(compared(speeds), tmp_path / f"{name}.png")
    one, two = (imread(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert one.shape[1] < two.shape[1]


def test_the_reference_alone(tmp_path, points):
    plot_speed_ups(compared({("near", "adamw"): [1.0]}), tmp_path / "speed_ups.png")
    assert points == {"o": [], "v": [], "line": []}
    assert (tmp_path / "speed_ups.png").is_file()


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw, what in ((plot, CURVES), (plot_speed_ups, compared(SPEEDS))):
        with pytest.raises(MetaTrainError, match=r"ngopt\[draw\]"):
            draw(what, tmp_path / "curves.png")
