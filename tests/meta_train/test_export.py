import json
import subprocess

import pytest
import torch
from torch import nn

import ngopt
from meta_train import checkpoint
from meta_train.errors import MetaTrainError
from meta_train.export import ExportOptions, card_path, commit, export, run_export
from ngopt.errors import RuleError
from ngopt.rules import MatrixGNN
from ngopt.rules.library import fingerprint

CONFIG = {"seed": 7, "families": ["mlp:width=8"], "estimator": "pes"}
RESULTS = {
    "command": "evaluate",
    "reference": "adamw",
    "budget": {"steps": 5},
    "criterion": "train",
    "summaries": [{"contestant": "ours", "accuracy": None}],
    "rows": [],
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
    loaded, memory, fresh = map(trajectory, (str(path), rule, "default"))
    assert all(map(torch.equal, loaded, memory))
    assert not any(map(torch.equal, loaded, fresh))


def test_card(run, rule, tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps({**RESULTS, "curves": {}}))
    path = tmp_path / "mine.safetensors"
    card = export(run, path, tmp_path / "evaluation.json", ["Large batches."])
    assert json.loads(card_path(path).read_text()) == json.loads(json.dumps(card))
    assert card_path(path) == tmp_path / "mine.json"
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
    assert card["results"] == RESULTS
    assert card["known_weaknesses"] == ["Large batches."]
    assert card["torch"] == torch.__version__
    assert card["commit"] == commit()


def test_without_results(run, tmp_path):
    card = export(run, tmp_path / "mine.safetensors")
    assert card["results"] is None
    assert card["known_weaknesses"] == []


@pytest.mark.parametrize("content", [None, "", "[]", "{}", json.dumps({"rows": []})])
def test_results_that_are_none(run, tmp_path, content):
    path = tmp_path / "evaluation.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(MetaTrainError, match="is no evaluation"):
        export(run, tmp_path / "mine.safetensors", path)
    assert not (tmp_path / "mine.safetensors").exists()


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
    run_export(ExportOptions(run, path), lines.append)
    (text,) = lines
    assert f'ngopt.NeuralGraphOptimizer(model, rule="{path}")' in text
    assert "after 20 outer steps" in text
    assert str(card_path(path)) in text


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
