import json
import sys

import pytest

from benchmarks import headroom


def test_the_table_tells_the_best_of_each_task_and_what_could_be_foreseen():
    found = {
        "mlp:width=8": {"slow": {"0.0": [-0.3, 0.01]}},
        "convnet:width=8": {"slow": {"0.0": [-0.2, 0.02]}},
        "gnn:width=8": {"slow": {"0.0": [0.1, 0.02]}},
    }
    *_, row = headroom.table(found)
    *cells, foreseen = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells == ["0.0: -0.300 ± 0.010", "0.0: -0.200 ± 0.020", "0"]
    # On the third task, where it does harm, the others speak for it.
    assert float(foreseen) == round((-0.3 - 0.2 + 0.1) / 3, 3)


def test_values_are_compared_on_the_same_problems_and_kept(monkeypatch, capsys, tmp_path):
    options = ["--tasks", "mlp:width=8,depth=1", "--steps", "8", "--problems", "2"]
    monkeypatch.setattr(
        sys, "argv", ["headroom", *options, "--controls", "size", "slow", "--out", str(tmp_path)]
    )
    headroom.main()
    printed = capsys.readouterr().out
    (known,) = json.loads((tmp_path / "headroom.json").read_text()).values()
    assert set(known) == {"size", "slow"}
    assert all(mean != 0 for values in known.values() for mean, _ in values.values())
    monkeypatch.setattr(headroom, "losses", lambda *_: pytest.fail("computed again"))
    headroom.main()
    assert capsys.readouterr().out == printed
