import sys

import pytest

pytest.importorskip("matplotlib")

from docs import make_step


def test_every_box_is_joined_to_others():
    ends = {end for arrow in make_step.ARROWS for end in arrow}
    assert ends == make_step.BOXES.keys()


def test_all_of_it_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_step.py", "--out", str(tmp_path / "step.png")])
    make_step.main()
    assert (tmp_path / "step.png").read_bytes()[:4] == b"\x89PNG"
    (axes,) = make_step.picture().axes
    boxes = make_step.BOXES.values()
    assert {text.get_text() for text in axes.texts} == {t for b in boxes for t in (b.title, b.text)}
    assert len(axes.patches) == len(boxes) + len(make_step.ARROWS)
