"""CITATION.cff says what it must, and what the project says of itself."""

import pytest

from tests.docs.project import PROJECT, ROOT

yaml = pytest.importorskip("yaml")


@pytest.fixture(scope="module")
def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_required_keys_are_there(citation):
    assert citation["cff-version"] == "1.2.0"
    assert all(isinstance(citation[key], str) for key in ("message", "title"))
    assert citation["authors"] == [{"name": "The ngopt developers"}]


def test_it_agrees_with_the_project(citation):
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_paper_is_cited(citation):
    (paper,) = citation["references"]
    assert {"type", "title", "authors", "conference", "year"} <= paper.keys()
    assert paper["authors"][0]["family-names"] == "Kofinas"
    assert paper["year"] == 2024
    assert paper["title"] in " ".join((ROOT / "README.md").read_text().split())
