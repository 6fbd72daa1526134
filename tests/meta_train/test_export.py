import json

import pytest
import torch
from torch import nn

import ngopt
from meta_train import checkpoint
from meta_train.errors import MetaTrainError
from meta_train.export import ExportOptions, export, results_of, run_export
from meta_train.provenance import commit
from ngopt.errors import NgoptError, RuleError
from ngopt.rules import MatrixGNN
from ngopt.rules.cards import card_path
from ngopt.rules.library import fingerprint

CONFIG = {"seed": 7, "families": ["mlp:width=8"], "estimator": "pes"}


def _row(suite, task, contestant, **changes):
    figures = {"train": 0.5, "test": 0.6, "accuracy": None, "speed_up": 1.0, "steps": 4}
    return {"suite": suite, "task": task, "contestant": contestant, **figures, **changes}


EVALUATION = {
    "command": "evaluate --rule runs/mine LSTM",
    "options": {"device": "auto"},
    "reference": "adamw",
    "criterion": "train",
    "planned": 3,
    "summaries": [{"contestant": name, "suite": "near"} for name in ("adamw", "ours", "LSTM")],
    "rows": [
        _row("near", "mlp", "adamw", test=0.7, accuracy=0.8),
        _row("near", "mlp", "ours", speed_up=2.0, stalled=1),
        _row("near", "mlp", "LSTM"),
        _row("far", "mlp", "adamw", train=0.4),
        _row("far", "mlp", "ours", diverged=3),
    ],
    "curves": {"mlp": {"adamw": [1.0, 0.5]}},
}


@pytest.fixture
def rule():
    built = MatrixGNN(width=2, rounds=1, hidden=2)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return built


@pytest.fixture
def run(rule, tmp_path):
    """Folder of a run that has learned the rule."""
    fresh = MatrixGNN(width=2, rounds=1, hidden=2)
    for step, of in ((10, fresh), (20, rule)):
        described = {"spec": "MatrixGNN", "class": "MatrixGNN", "config": json.dumps(of.config)}
        described["lr"] = 0.25
        state = {
            "rule": described,
            "theta": dict(of.state_dict()),
            "config": json.dumps(CONFIG),
            "step": step,
            "cost": {"inner_steps": 100 * step, "seconds": 1.5},
            "command": "meta_train train --preset smoke",
        }
        checkpoint.save(tmp_path / "run", step, state)
    return tmp_path / "run"


def trajectory(rule):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    optimizer = ngopt.NeuralGraphOptimizer(model, lr=0.01, rule=rule)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def test_an_exported_rule_does_what_it_did_in_memory(run, rule, tmp_path):
    path = tmp_path / "new" / "mine.safetensors"
    export(run, path)
    loaded, memory, fresh = map(trajectory, (str(path), rule, MatrixGNN()))
    assert all(map(torch.equal, loaded, memory))
    assert not any(map(torch.equal, loaded, fresh))


def test_card(run, rule, tmp_path):
    path, results = tmp_path / "mine.safetensors", {"reference": "adamw", "tasks": []}
    card = export(run, path, results, ["Large batches."])
    assert ngopt.rule_card(path) == json.loads(json.dumps(card))
    loaded = ngopt.load_rule(path)
    assert card["rule"] == "MatrixGNN"
    assert card["config"] == loaded.config == rule.config
    assert card["lr"] == loaded.lr == 0.25
    assert card["sha256"] == fingerprint(loaded.state_dict())
    assert card["weights"] == sum(weight.numel() for weight in rule.parameters())
    assert card["command"] == "meta_train train --preset smoke"
    assert card["seed"] == 7
    assert card["tasks"] == ["mlp:width=8"]
    assert card["cost"] == {"outer_steps": 20, "inner_steps": 2000, "seconds": 1.5}
    assert card["meta_training"] == CONFIG
    assert card["results"] == results
    assert card["known_weaknesses"] == ["Large batches."]
    assert card["torch"] == torch.__version__
    assert card["commit"] == commit()


def test_without_results(run, tmp_path):
    card = export(run, tmp_path / "mine.safetensors")
    assert card["results"] is None
    assert card["known_weaknesses"] == []


@pytest.fixture
def evaluation(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(EVALUATION))
    return path


def test_results_are_the_rule_beside_the_reference_task_by_task(evaluation):
    results = results_of(evaluation, "ours")
    assert results.pop("summaries") == EVALUATION["summaries"][:2]
    first, second = results.pop("tasks")
    assert results == {
        "command": "evaluate --rule runs/mine LSTM",
        "reference": "adamw",
        "criterion": "train",
        "planned": 3,
        "contestant": "ours",
    }
    assert first == {
        "suite": "near",
        "task": "mlp",
        "train": 0.5,
        "test": 0.6,
        "accuracy": None,
        "speed_up": 2.0,
        "stalled": 1,
        "reference_train": 0.5,
        "reference_test": 0.7,
        "reference_accuracy": 0.8,
    }
    assert (second["suite"], second["diverged"], second["reference_train"]) == ("far", 3, 0.4)


def test_results_of_an_evaluation_of_other_rules(evaluation):
    with pytest.raises(MetaTrainError, match=r"(?s)`mine` took no part.*: adamw, ours, LSTM\."):
        results_of(evaluation, "mine")


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", json.dumps({"rows": [{"contestant": "ours"}]})]
)
def test_results_that_are_none(tmp_path, content):
    path = tmp_path / "evaluation.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(MetaTrainError, match="is no evaluation"):
        results_of(path, "ours")


@pytest.mark.parametrize("contestant", [None, "ours"])
def test_command_takes_the_results_of_the_run(run, evaluation, tmp_path, contestant):
    path, name = tmp_path / "mine.safetensors", contestant or str(run)
    evaluation.write_text(json.dumps(EVALUATION).replace('"ours"', json.dumps(name)))
    run_export(ExportOptions(str(run), path, evaluation, contestant, ("Slow.",)), lambda line: None)
    card = ngopt.rule_card(path)
    assert card["results"] == results_of(evaluation, name)
    assert card["known_weaknesses"] == ["Slow."]


def test_nothing_is_exported_with_wrong_results(run, evaluation, tmp_path):
    path = tmp_path / "mine.safetensors"
    with pytest.raises(MetaTrainError, match="took no part"):
        run_export(ExportOptions(str(run), path, evaluation), lambda line: None)
    assert not path.exists()


def test_wrong_ending(run, tmp_path):
    with pytest.raises(RuleError, match="safetensors"):
        export(run, tmp_path / "mine.pt")
    assert not card_path(tmp_path / "mine.pt").exists()


def test_empty_run(tmp_path):
    with pytest.raises(MetaTrainError, match="no checkpoint"):
        export(tmp_path, tmp_path / "mine.safetensors")


def test_command_says_how_to_go_on(run, tmp_path):
    lines = []
    path = tmp_path / "mine.safetensors"
    run_export(ExportOptions(str(run), path), lines.append)
    (text,) = lines
    assert f'ngopt.NeuralGraphOptimizer(model, rule="{path}")' in text
    assert "after 20 outer steps" in text
    assert str(card_path(path)) in text


def test_a_rule_before_meta_training(tmp_path):
    path = tmp_path / "fresh.safetensors"
    lines = []
    run_export(ExportOptions("MatrixGNN:width=2,base_update={'slow':2.0}", path), lines.append)
    loaded, card = ngopt.load_rule(path), ngopt.rule_card(path)
    fresh = MatrixGNN(width=2, base_update={"slow": 2.0})
    assert loaded.config == fresh.config == card["config"]
    assert card["sha256"] == fingerprint(fresh.state_dict())
    assert card["cost"] == {"outer_steps": 0, "inner_steps": 0, "seconds": 0.0}
    assert card["tasks"] == []
    assert "after 0 outer steps" in lines[0]


def test_a_rule_that_cannot_be_built_leaves_no_file(tmp_path):
    path = tmp_path / "fresh.safetensors"
    with pytest.raises(NgoptError, match="slowness"):
        export("MatrixGNN:base_update={'slowness':1}", path)
    assert not path.exists()
