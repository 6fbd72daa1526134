import json
import math
import shutil
import sys
from dataclasses import replace

import pytest
import torch

from meta_train import baselines, evaluate
from meta_train.comparison import Comparison, Row, Summary
from meta_train.curves import Budget, Setting
from meta_train.errors import MetaTrainError
from meta_train.evaluate import EvaluateOptions, as_json, contestants, run_evaluate, trials
from meta_train.suites import SUITES, SuiteTask
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
        "speed_ups.png",
    }
    content = strict((folder / "evaluation.json").read_text())
    names = ["adam", "sgdm", "MatrixGNN:rounds=1,width=2"]
    assert [row["contestant"] for row in content["rows"]] == 2 * names
    assert [summary["contestant"] for summary in content["summaries"]] == names
    for row in content["rows"]:
        assert row["budget"] == {"steps": 5, "problems": 2, "seed": 0, "batches": 16}
    assert content["options"]["tasks"] == list(OPTIONS.tasks)
    for curves in content["curves"].values():
        assert set(curves) == set(names)
        assert all(len(curve) == 5 for curve in curves.values())


TINY_SUITES = {
    "near": (
        SuiteTask("mlp:width=4,depth=1,batch=4", 3, 1),
        SuiteTask("mlp:width=5,depth=1", 4, 2),
    ),
    "far": (SuiteTask("quadratic:size=2,condition=10.0,rotated=False,noise=0.0", 6, 2),),
}


@pytest.fixture
def undrawn(monkeypatch):
    """Without pictures, which take longer than all else."""
    monkeypatch.setattr(evaluate, "find_spec", lambda name: None)


@pytest.fixture
def tiny_suites(monkeypatch):
    for name, entries in TINY_SUITES.items():
        monkeypatch.setitem(SUITES, name, entries)


def test_suites(tiny_suites, undrawn, tmp_path):
    options = replace(OPTIONS, tasks=(), suites=("far", "near"), steps=None, problems=None)
    run_evaluate(replace(options, opponents=("sgdm",), out=tmp_path), lambda line: None)
    content = strict((tmp_path / "evaluation.json").read_text())
    rows = content["rows"][::2]
    assert [(row["suite"], row["task"].partition("(")[0]) for row in rows] == [
        ("far", "quadratic"),
        ("near", "mlp"),
        ("near", "mlp"),
    ]
    assert [(row["budget"]["steps"], row["budget"]["problems"]) for row in rows] == [
        (6, 2),
        (3, 1),
        (4, 2),
    ]
    summaries = content["summaries"]
    assert [(s["suite"], s["tasks"]) for s in summaries] == [("far", 1)] * 2 + [("near", 2)] * 2
    text = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    assert "## near: interquartile means over 2 tasks" in text


def test_tasks_beside_suites_and_steps_for_all(tiny_suites):
    options = EvaluateOptions(suites=("near", "near"), tasks=("quadratic:size=2",), steps=7)
    found = trials(options)
    assert [(trial.suite, trial.budget) for trial in found] == [
        ("near", Budget(7, 1)),
        ("near", Budget(7, 2)),
        ("", Budget(7, 3)),
    ]
    (*_, own) = trials(replace(options, steps=None, problems=5, seed=1))
    assert own.budget == Budget(500, 5, 1)


def test_opponents_alone_fill_the_cache_for_a_rule(tiny_suites, undrawn, tmp_path, monkeypatch):
    options = replace(OPTIONS, tasks=(), suites=("near",), opponents=("sgdm",), out=tmp_path)
    run_evaluate(replace(options, rule=()), lambda line: None)
    rows = strict((tmp_path / "evaluation.json").read_text())["rows"]
    assert [row["contestant"] for row in rows] == ["sgdm", "sgdm"]
    computed, original = [], baselines.curves

    def counted(rule, *rest):
        computed.append(type(rule))
        return original(rule, *rest)

    monkeypatch.setattr(baselines, "curves", counted)
    run_evaluate(options, lambda line: None)
    assert computed == [MatrixGNN, MatrixGNN]


def test_killed_and_started_again(evaluated, undrawn, monkeypatch, tmp_path):
    whole, _ = evaluated
    calls, original = [], baselines.curves

    def killed_in_the_second_task(rule, task, settings, budget):
        calls.append((task.name.partition("(")[0], type(rule).__name__))
        if calls == [*BEFORE, ("quadratic", "SGDM")]:
            raise KeyboardInterrupt
        return original(rule, task, settings, budget)

    monkeypatch.setattr(baselines, "curves", killed_in_the_second_task)
    options = replace(OPTIONS, out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_evaluate(options, lambda line: None)
    rows = strict((whole / "evaluation.json").read_text())["rows"]
    assert strict((tmp_path / "evaluation.json").read_text())["rows"] == rows[:3]
    assert "1 of 2 tasks" in (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    run_evaluate(options, lambda line: None)
    assert calls[len(BEFORE) :] == [("quadratic", "SGDM")] * 2 + [("quadratic", "MatrixGNN")]
    assert strict((tmp_path / "evaluation.json").read_text())["rows"] == rows


BEFORE = [("mlp", "Adam"), ("mlp", "SGDM"), ("mlp", "MatrixGNN"), ("quadratic", "Adam")]


def test_what_is_lost_is_computed_again(evaluated, undrawn, tmp_path):
    whole, _ = evaluated
    shutil.copytree(whole / "cache", tmp_path / "cache")
    for lost in sorted((tmp_path / "cache").rglob("*.json"))[::2]:
        lost.unlink()
    run_evaluate(replace(OPTIONS, out=tmp_path), lambda line: None)
    contents = [strict((f / "evaluation.json").read_text()) for f in (whole, tmp_path)]
    assert contents[0]["rows"] == contents[1]["rows"]


def test_screening(undrawn, tmp_path, monkeypatch):
    asked, original = [], baselines.curves

    def spy(rule, task, settings, budget):
        asked.append((len(settings), budget.problems))
        return original(rule, task, settings, budget)

    monkeypatch.setattr(baselines, "curves", spy)
    options = replace(OPTIONS, tasks=OPTIONS.tasks[1:], opponents=("adamw",), screen=1, steps=3)
    run_evaluate(replace(options, out=tmp_path), lambda line: None)
    assert asked == [(14, 1), (4, 2), (1, 2)]


def test_what_is_shown(evaluated):
    folder, lines = evaluated
    rows = [line for line in lines if "speed-up" in line and "\n" not in line]
    assert len(rows) == 6
    assert (folder / "evaluation.md").read_text(encoding="utf-8") in lines[6]
    assert lines[-1].startswith(f"Written to {folder}: evaluation.md has the tables")
    assert f"--results {folder / 'evaluation.json'}" in lines[-1]


def test_a_second_time_nothing_is_computed(evaluated, undrawn, monkeypatch, tmp_path):
    folder, _ = evaluated
    monkeypatch.setattr(baselines, "curves", pytest.fail)
    again = replace(OPTIONS, out=tmp_path, cache=folder / "cache")
    run_evaluate(again, lambda line: None)
    contents = [strict((f / "evaluation.json").read_text()) for f in (folder, tmp_path)]
    assert contents[0]["rows"] == contents[1]["rows"]
    assert not (tmp_path / "cache").exists()


def test_without_matplotlib(evaluated, undrawn, tmp_path):
    lines = []
    again = replace(OPTIONS, out=tmp_path, cache=evaluated[0] / "cache")
    run_evaluate(again, lines.append)
    assert any("ngopt[draw]" in line for line in lines)
    assert not (tmp_path / "curves.png").exists()
    assert (tmp_path / "evaluation.md").is_file()


def test_rules_run_untuned_and_as_a_second_row_tuned():
    (_, _, untuned) = contestants(OPTIONS)
    assert isinstance(untuned.rule, MatrixGNN)
    assert untuned.settings == (Setting(untuned.rule.lr, "constant", None),)
    given = contestants(replace(OPTIONS, lr=0.5, weight_decay=0.1))[2].settings
    assert given == (Setting(0.5, "constant", 0.1),)
    both = contestants(replace(OPTIONS, rule=("LSTM", "default"), sweep=True))
    names = ["adam", "sgdm", "LSTM", "default", "LSTM, tuned", "default, tuned"]
    assert [sweep.name for sweep in both] == names
    assert isinstance(both[4].rule, LSTM)
    assert both[4].settings == both[0].settings


def test_tasks_are_drawn_by_their_seed():
    options = EvaluateOptions(tasks=("mlp", "quadratic"), draws=3)
    names = [trial.task.name for trial in trials(options)]
    assert names == [trial.name for trial in trials(options)]
    assert names != [trial.name for trial in trials(replace(options, seed=1))]
    assert len(names) == len(set(names))
    families = [name.partition("(")[0] for name in names]
    assert families == sorted(families)
    assert set(families) == {"mlp", "quadratic"}


def test_equal_tasks_count_once():
    options = EvaluateOptions(tasks=("mlp:width=4,depth=1", "mlp:width=4,depth=1"), draws=2)
    assert len(trials(options)) == 1


def test_modules_of_ones_own_are_imported(tmp_path, monkeypatch):
    (tmp_path / "evaluated_family.py").write_text(
        "from meta_train.tasks.family import FAMILIES\nFAMILIES['mine'] = FAMILIES['quadratic']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    tiny = replace(OPTIONS, tasks=("mine:size=2",), steps=2, problems=1, out=tmp_path)
    options = replace(tiny, opponents=("sgdm",), imports=("evaluated_family",))
    try:
        (found,) = evaluate.evaluate(options)
    finally:
        FAMILIES.pop("mine", None)
    assert [row.task.partition("(")[0] for row in found.rows] == ["quadratic"] * 2


def test_what_is_not_finite_becomes_null(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["meta_train", "evaluate"])
    figures = (1.0, math.nan, 1.0, 1.0, 1.0, 1.0, math.nan, False, 0, 1, None, 0.0)
    row = Row("near", "t", Budget(), "c", "s", False, *figures)
    summary = Summary("near", "c", 1, 1.0, 1.0, math.nan, 0.0, 0, 0, 1)
    compared = Comparison("c", "train", 1, (row,), (summary,), {"near: t": {"c": [1.0]}})
    content = strict(as_json(compared, OPTIONS))
    assert content["rows"][0]["error"] is None
    assert content["summaries"][0]["accuracy"] is None
    assert content["curves"] == {"near: t": {"c": [1.0]}}
    assert content["command"] == "meta_train evaluate"


@pytest.mark.parametrize(
    "wrong", [{"opponents": ()}, {"draws": 0}, {"screen": -1}, {"lr": 0.0}], ids=str
)
def test_options_that_make_no_sense(wrong):
    with pytest.raises(MetaTrainError, match=f"{next(iter(wrong))}="):
        EvaluateOptions(tasks=("mlp",), **wrong)


def test_something_must_be_evaluated_on():
    with pytest.raises(MetaTrainError, match="--suites"):
        EvaluateOptions()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"problems": 0}], ids=str)
def test_no_steps_or_problems(wrong):
    with pytest.raises(MetaTrainError, match=f"{next(iter(wrong))}=0"):
        trials(replace(OPTIONS, **wrong))


@pytest.mark.parametrize("key", ["rule", "opponents", "tasks", "suites"])
def test_unknown_names_end_before_anything_is_computed(key):
    with pytest.raises(MetaTrainError, match=r"(a|A)dan"):
        next(evaluate.evaluate(replace(OPTIONS, **{key: ("Adan",)})))


def test_the_random_state_is_left_alone(undrawn, tmp_path):
    before = torch.get_rng_state()
    run_evaluate(replace(OPTIONS, out=tmp_path, opponents=("sgdm",), steps=2), lambda line: None)
    assert torch.equal(torch.get_rng_state(), before)
