"""Each block of code in docs/trainers.md runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "trainers.md").read_text()
BLOCKS = dict(re.findall(r"## (.*?)\n.*?```python\n(.*?)```", TEXT, re.DOTALL))


def test_there_is_a_block_for_each_trainer():
    assert list(BLOCKS) == ["Lightning", "Accelerate", "transformers.Trainer"]


@pytest.mark.parametrize("name", BLOCKS)
def test_runs(name, tmp_path):
    pytest.importorskip({"transformers.Trainer": "transformers"}.get(name, name.lower()))
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[name]], cwd=tmp_path, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    assert "graph of the network is not known" not in done.stderr
