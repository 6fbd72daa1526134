import sys

import pytest

from benchmarks.workloads import char_gpt, discovery
from benchmarks.workloads.optimizers import OPTIMIZERS
from meta_train.errors import MetaTrainError
from tests.benchmarks.workloads.toy import toy
from tests.docs.project import ROOT


def test_workloads_are_found():
    found, _ = discovery.discovered()
    assert "char_gpt" in found
    assert found["char_gpt"] is char_gpt.WORKLOAD


def test_runs_have_15_to_30_evaluations_the_last_of_them_at_the_end():
    found, _ = discovery.discovered()
    assert not [w.name for w in found.values() if w.steps % w.every]
    assert not [w.name for w in found.values() if not 15 <= w.steps // w.every <= 30]


def test_each_has_a_row_in_the_documentation():
    lines = (ROOT / "docs/workloads.md").read_text().splitlines()
    rows = [line.split("`")[1] for line in lines if line.startswith("| `")]
    found, _ = discovery.discovered()
    assert sorted(rows) == sorted([*found, *OPTIMIZERS])


def test_a_file_may_have_several_workloads(monkeypatch):
    found, _ = discovery.discovered()
    monkeypatch.delattr(char_gpt, "WORKLOAD")
    monkeypatch.setattr(char_gpt, "WORKLOADS", [toy(), toy(name="other")], raising=False)
    assert set(found) - {"char_gpt"} | {"toy", "other"} == set(discovery.discovered()[0])
    monkeypatch.setattr(char_gpt, "WORKLOADS", [toy(), toy()])
    with pytest.raises(MetaTrainError, match="two workloads called `toy`"):
        discovery.discovered()


def test_a_file_that_needs_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "benchmarks.workloads.char_gpt", None)
    found, failed = discovery.discovered()
    assert "char_gpt" not in found
    assert "char_gpt" in failed
