import sys
from importlib import import_module

import pytest

from docs.make import __main__ as program


def run(monkeypatch, *words):
    made = []
    for page in program.PAGES:
        module = import_module(f"docs.make.{page}")
        monkeypatch.setattr(module, "make", lambda given, page=page: made.append((page, given)))
    monkeypatch.setattr(sys, "argv", ["make", *words])
    program.main()
    return made


def test_a_page_is_made_of_what_is_given(monkeypatch):
    assert run(monkeypatch, "rules", "NGT", "NGGNN") == [("rules", ["NGT", "NGGNN"])]


def test_without_a_page_those_that_are_kept_are_made(monkeypatch):
    assert run(monkeypatch) == [("results", []), ("compatibility", [])]


def test_every_page_is_explained(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--help")
    explained = capsys.readouterr().out
    assert all(f"\n    {page}" in explained for page in program.PAGES)


def test_another_page_is_refused(monkeypatch):
    with pytest.raises(SystemExit):
        run(monkeypatch, "readme")
