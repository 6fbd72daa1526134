"""The command line and the commit of a process."""

import subprocess
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from meta_train.provenance import command, commit


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/a/b/meta_train/__main__.py", "tasks"], "python -m meta_train tasks"),
        (["/a/b/sweep.py", "--rule", "NGT:width=1|2"], "sweep.py --rule 'NGT:width=1|2'"),
        ([""], "''"),
    ],
)
def test_says_what_to_type(arguments, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", arguments)
    assert command() == expected


@pytest.mark.parametrize(
    ("name", "origin", "expected"),
    [
        ("a.b", "/x/a/b.py", "python -m a.b --fast"),
        ("a.__main__", "/x/a/__main__.py", "python -m a --fast"),
    ],
)
def test_modules_are_named_with_their_packages(name, origin, expected, monkeypatch):
    module = ModuleType("__main__")
    module.__spec__ = ModuleSpec(name, None, origin=origin)
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(sys, "argv", [origin, "--fast"])
    assert command() == expected


def test_commit(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert commit(tmp_path) is None
    git("init")
    assert commit(tmp_path) is None
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--message", "first")
    git("tag", "v1")
    head = git("rev-parse", "HEAD")
    assert commit(tmp_path) == head
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == f"{head}-dirty"
    assert commit(tmp_path / "package") is None
