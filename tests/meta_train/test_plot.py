import sys

import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from meta_train.errors import MetaTrainError
from meta_train.plot import plot

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


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MetaTrainError, match=r"ngopt\[draw\]"):
        plot(CURVES, tmp_path / "curves.png")
