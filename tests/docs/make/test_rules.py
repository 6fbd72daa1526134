import shutil

import pytest
import torch

from benchmarks.models import images
from docs.make import rules
from docs.make.page import DOCS, filled
from docs.make.page import rows as rows_of


@pytest.fixture
def small(monkeypatch):
    """A model that takes no time; measurements in this process, as all the others."""
    models = {"small": (lambda: torch.nn.Linear(3, 2), images(4, 3))}
    monkeypatch.setattr(rules, "MODELS", models)
    monkeypatch.setattr(rules, "alone", lambda function, *words, **_: function(*words))


def test_given_rules_are_measured_and_the_rows_of_others_stay(small, tmp_path):
    page = tmp_path / "rules.md"
    shutil.copy(DOCS / "rules.md", page)
    before = page.read_text()
    rules.make(["SGDM", "Celo2"], page)
    text = page.read_text()
    assert rows_of(text, "size")["SGDM"][:2] == ["SGDM", "0"]
    assert rows_of(text, "size")["SGDM"] != rows_of(before, "size")["SGDM"]
    assert rows_of(text, "size")["NGT"] == rows_of(before, "size")["NGT"]
    assert list(rows_of(text, "update")) == [n for n in rules.RULES if n in rows_of(text, "update")]
    assert rows_of(text, "meta-gradient")["SGDM"] == ["SGDM", "no theta"]
    for cost in rules.COSTS:
        assert rows_of(text, cost)["Celo2"][1].endswith(" MiB")


def test_another_rule_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="no rule `Lion`"):
        rules.make(["Lion"], tmp_path / "rules.md")


def test_what_would_take_too_much_memory_is_not_tried(monkeypatch, capsys):
    monkeypatch.setattr(rules, "alone", lambda *_, **__: {"seconds": 1.0, "MiB": 2000.0})
    cells = rules.row("SGDM", "update")
    assert cells[1:3] == ["1,000 ms, 2,000 MiB"] * 2
    assert cells[-1].startswith("does not fit: about ")


@pytest.mark.parametrize(
    ("found", "cell"),
    [
        ({"seconds": 9.9, "MiB": 5.0}, "9,900 ms, 5 MiB"),
        ({"seconds": 12.0, "MiB": 5.0}, "12 s, 5 MiB"),
        ({"stopped": 3, "MiB": 10240.0}, "does not fit: above 10.0 GiB"),
        ({"stopped": 120, "MiB": 5.0}, "more than 120 s"),
    ],
)
def test_cells(found, cell):
    assert rules.shown(found) == cell


def test_the_page_has_a_place_for_each_block():
    text = (DOCS / "rules.md").read_text()
    assert filled(text, {}) == text
    assert {"Adam", "MatrixGNN"} <= rows_of(text, "size").keys()
