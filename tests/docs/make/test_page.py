import doctest

import pytest

from docs.make import page
from docs.make.page import BLOCK, DOCS, as_text, fill, filled, rows

TEXT = """Before.

<!-- begin one, by python -m docs.make x -->
<!-- end one -->

Between.
<!-- begin two, by python -m docs.make x -->

| a | b |
| --- | ---: |
| c | 1 |

<!-- end two -->
After.
"""


def test_only_the_given_blocks_change():
    text = filled(TEXT, {"one": ["* line", "* line"]})
    assert text == TEXT.replace("x -->\n<!-- end one", "x -->\n\n* line\n* line\n\n<!-- end one")
    assert filled(text, {"one": []}) == TEXT


def test_filling_again_changes_nothing(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(TEXT)
    for _ in range(2):
        fill(path, {"two": ["New."]})
        assert path.read_text().count("New.") == 1
    assert "Between.\n" in path.read_text()


def test_a_block_without_a_place_is_told():
    with pytest.raises(SystemExit, match=r"no place for `three`(.|\n)*begin three"):
        filled(TEXT, {"one": [], "three": []})


def test_rows_of_a_table_are_read_back():
    assert rows(TEXT, "two") == {"c": ["c", "1"]}


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_every_marker_is_of_a_whole_block(path):
    text = path.read_text()
    names = [match[2] for match in BLOCK.finditer(text)]
    assert len(set(names)) == len(names) == text.count("<!-- begin ") == text.count("<!-- end ")


def test_json_has_a_line_for_each_entry():
    content = {"a": [{"b": 1}, {"b": [2, 3]}], "c": {"d": 4}, "e": []}
    assert as_text(content).splitlines()[2:4] == ['{"b": 1},', '{"b": [2, 3]}']
    assert len(as_text(content).splitlines()) == 8


def test_examples_in_docstrings():
    found = doctest.testmod(page)
    assert found.attempted > 0
    assert found.failed == 0
