import shutil

import pytest

from docs.make import graphs
from docs.make.page import DOCS, rows
from tests.zoo import ZOO


def test_the_page_is_filled(tmp_path, monkeypatch):
    page = tmp_path / "graphs.md"
    shutil.copy(DOCS / "graphs.md", page)
    monkeypatch.setattr(graphs, "ZOO", {"mlp": ZOO["mlp"], "glu": ZOO["glu"]})
    costs = {"forward": 0.5, "trace": 1.0, "verify": 5.0}
    monkeypatch.setattr(graphs, "alone", lambda _, name: {"seconds": costs[name], "MiB": 10.0})
    graphs.make([], page)
    found = rows(page.read_text(), "zoo")
    assert list(found) == ["mlp", "glu"]
    assert found["mlp"][1:5] == ["12, 13", "yes", "yes", "2"]
    assert [cells[2] for cells in rows(page.read_text(), "large").values()] == [
        "1.0",
        "2.0",
        "10.0",
    ]


def test_the_committed_page_has_no_graph_that_is_wrong():
    found = rows((DOCS / "graphs.md").read_text(), "zoo")
    assert found.keys() <= ZOO.keys()
    assert {tuple(cells[2:4]) for cells in found.values()} == {("yes", "yes")}


def test_arguments_are_refused():
    with pytest.raises(SystemExit, match="takes no `mlp`"):
        graphs.make(["mlp"])
