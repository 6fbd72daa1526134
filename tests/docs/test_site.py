"""What the pages of the site must have, which Sphinx does not see to, and links on GitHub."""

import re

import pytest

import ngopt
import ngopt.rules
from meta_train import cli
from tests.docs.pages import PAGES
from tests.docs.project import ROOT

REFERENCE = {page.stem: page.read_text() for page in ROOT.glob("docs/reference/*.rst")}
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([\w-]*))?\)")
TEXTS = [*PAGES, ROOT / "CHANGELOG.md"]


@pytest.mark.parametrize("module", [ngopt, ngopt.rules], ids=lambda module: module.__name__)
def test_public_names_are_in_the_reference(module):
    known = set(re.findall(r"^\.\. auto\w+:: (.*)$", "\n".join(REFERENCE.values()), re.MULTILINE))
    assert {f"{module.__name__}.{name}" for name in module.__all__} <= known


def test_commands_are_in_the_reference():
    for command in cli.COMMANDS.values():
        for place in (command.options, command.run):
            name = place.replace(":", ".")
            assert re.search(rf":: {re.escape(name)}$", REFERENCE["meta_train"], re.MULTILINE)


def anchors(page):
    """What GitHub calls the headings of a page in links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target, anchor in LINK.findall(page.read_text()):
        if "://" not in target:
            found = page.parent / target if target else page
            assert found.exists(), target
            assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


def test_links_are_found():
    assert LINK.findall("[a](b.md#c-d), ![e](f.png), [g](#h)") == [
        ("b.md", "c-d"),
        ("f.png", ""),
        ("", "h"),
    ]


def test_pages_of_the_root_are_short_ways_to_its_files():
    for name in ("CHANGELOG", "CONTRIBUTING"):
        assert f"{{include}} ../{name}.md" in (ROOT / f"docs/{name.lower()}.md").read_text()
