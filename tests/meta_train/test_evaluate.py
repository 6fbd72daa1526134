import json
import math
import sys
from dataclasses import replace

import pytest
import torch

from meta_train import baselines, evaluate
from meta_train.comparison import Comparison, Row, Summary
from meta_train.curves import Budget, Setting
from meta_train.errors import MetaTrainError
from meta_train.evaluate import EvaluateOptions, as_json, contestants, drawn, run_evaluate
from meta_train.tasks.family import FAMILIES
from ngopt.rules import LSTM, MatrixGNN

OPTIONS = EvaluateOptions(
    rule=("MatrixGNN:rounds=1,width=2",),
    tasks=("mlp:width=4,depth=1,batch=4", "quadratic:size=2"),
    opponents=("adam", "sgdm"),
    steps=5,
    problems=2,
    device="cpu",
)


def strict(text):
    """JSON without what only Python takes for it."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder, lines = tmp_path_factory.mktemp("evaluation") / "new", []
    run_evaluate(replace(OPTIONS, out=folder), lines.append)
    return folder, lines


def test_files(evaluated):
    folder, _ = evaluated
    assert {path.name for path in folder.iterdir()} == {
        "cache",
        "curves.png",
        "evaluation.json",
        "evaluation.md",
    }
    content = strict((folder / "evaluation.json").read_text())
    names = ["adam", "sgdm", "MatrixGNN:rounds=1,width=2"]
    assert [row["contestant"] for row in content["rows"]] == 2 * names
    assert [summary["contestant"] for summary in content["summaries"]] == names
    assert content["budget"] == {"steps": 5, "problems": 2, "seed": 0, "batches": 16}
    assert content["options"]["tasks"] == list(OPTIONS.tasks)
    for curves in content["curves"].values():
        assert set(curves) == set(names)
        assert all(len(curve) == 5 for curve in curves.values())


def test_what_is_shown(evaluated):
    folder, lines = evaluated
    rows = [line for line in lines if "speed-up" in line and "\n" not in line]
    assert len(rows) == 6
    assert (folder / "evaluation.md").read_text(encoding="utf-8") in lines[6]
    assert lines[-1] == f"Written to {folder}."


def test_a_second_time_nothing_is_computed(evaluated, monkeypatch, tmp_path):
    folder, _ = evaluated
    monkeypatch.setattr(baselines, "curves", None)
    again = replace(OPTIONS, out=tmp_path, cache=folder / "cache")
    run_evaluate(again, lambda line: None)
    contents = [strict((f / "evaluation.json").read_text()) for f in (folder, tmp_path)]
    assert contents[0]["rows"] == contents[1]["rows"]
    assert not (tmp_path / "cache").exists()


def test_without_matplotlib(evaluated, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "find_spec", lambda name: None)
    lines = []
    again = replace(OPTIONS, out=tmp_path, cache=evaluated[0] / "cache")
    run_evaluate(again, lines.append)
    assert any("ngopt[draw]" in line for line in lines)
    assert not (tmp_path / "curves.png").exists()
    assert (tmp_path / "evaluation.md").is_file()


def test_rules_run_untuned_and_as_a_second_row_tuned():
    (_, _, untuned) = contestants(OPTIONS)
    assert untuned.settings == (Setting(1e-3, "constant", 0.0),)
    assert isinstance(untuned.rule, MatrixGNN)
    assert contestants(replace(OPTIONS, lr=0.5))[2].settings == (Setting(0.5),)
    both = contestants(replace(OPTIONS, rule=("LSTM", "default"), sweep=True))
    names = ["adam", "sgdm", "LSTM", "default", "LSTM, tuned", "default, tuned"]
    assert [sweep.name for sweep in both] == names
    assert isinstance(both[4].rule, LSTM)
    assert both[4].settings == both[0].settings


def test_tasks_are_drawn_by_their_seed():
    options = EvaluateOptions(tasks=("mlp", "quadratic"), draws=3)
    names = [task.name for task in drawn(options)]
    assert names == [task.name for task in drawn(options)]
    assert names != [task.name for task in drawn(replace(options, seed=1))]
    assert len(names) == len(set(names))
    families = [name.partition("(")[0] for name in names]
    assert families == sorted(families)
    assert set(families) == {"mlp", "quadratic"}


def test_equal_tasks_count_once():
    options = EvaluateOptions(tasks=("mlp:width=4,depth=1", "mlp:width=4,depth=1"), draws=2)
    assert len(drawn(options)) == 1


def test_modules_of_ones_own_are_imported(tmp_path, monkeypatch):
    (tmp_path / "evaluated_family.py").write_text(
        "from meta_train.tasks.family import FAMILIES\nFAMILIES['mine'] = FAMILIES['quadratic']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    tiny = replace(OPTIONS, tasks=("mine:size=2",), steps=2, problems=1, out=tmp_path)
    options = replace(tiny, opponents=("sgdm",), imports=("evaluated_family",))
    try:
        rows = evaluate.evaluate(options).rows
    finally:
        FAMILIES.pop("mine", None)
    assert [row.task.partition("(")[0] for row in rows] == ["quadratic", "quadratic"]


def test_what_is_not_finite_becomes_null(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["meta_train", "evaluate"])
    row = Row("t", "c", "s", False, 1.0, math.nan, 1.0, 1.0, 1.0, 1.0, math.nan, 1, None, 0.0)
    summary = Summary("c", 1.0, 1.0, math.nan, 0.0, 1)
    compared = Comparison("c", Budget(), "train", (row,), (summary,), {"t": {"c": [1.0]}})
    content = strict(as_json(compared, OPTIONS))
    assert content["rows"][0]["error"] is None
    assert content["summaries"][0]["accuracy"] is None
    assert content["curves"] == {"t": {"c": [1.0]}}
    assert content["command"] == "meta_train evaluate"


@pytest.mark.parametrize(
    "wrong", [{"rule": ()}, {"tasks": ()}, {"opponents": ()}, {"draws": 0}, {"lr": 0.0}], ids=str
)
def test_options_that_make_no_sense(wrong):
    with pytest.raises(MetaTrainError, match=next(iter(wrong))):
        EvaluateOptions(**wrong)


def test_unknown_names_end_before_anything_is_computed():
    for wrong in ({"rule": ("Adan",)}, {"opponents": ("adan",)}, {"tasks": ("adan",)}):
        with pytest.raises(MetaTrainError, match=r"(a|A)dan"):
            evaluate.evaluate(replace(OPTIONS, **wrong), told=pytest.fail)


def test_the_random_state_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    run_evaluate(replace(OPTIONS, out=tmp_path, opponents=("sgdm",), steps=2), lambda line: None)
    assert torch.equal(torch.get_rng_state(), before)
