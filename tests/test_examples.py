import runpy
from pathlib import Path
from unittest.mock import patch

import pytest

from meta_train.tasks.family import FAMILIES

ROOT = Path(__file__).parent.parent
FEW = {"--steps": "3", "--networks": "12", "--training": "20"}
"""What examples are asked to do here."""

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_examples_are_found():
    assert EXAMPLES


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(script, tmp_path, monkeypatch, capsys):
    arguments = ["--out", str(tmp_path / "out")]
    for option, few in FEW.items():
        if option in script.read_text():
            arguments += [option, few]
    monkeypatch.setattr("sys.argv", [str(script), *arguments])
    monkeypatch.setenv("NGOPT_DATA", str(tmp_path / "nothing"))  # small data sets alone
    monkeypatch.chdir(tmp_path)
    with patch.dict(FAMILIES):
        runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] in ([], ["out"])


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_example_is_short(script):
    assert len(script.read_text().splitlines()) < 100
