import json
import subprocess
import sys

import pytest

from meta_train import cli
from meta_train.config import Config
from meta_train.presets import PRESETS
from meta_train.zoo.store import Zoo


def test_presets_give_the_defaults_and_options_change_them():
    options = cli.read(["train", "--preset", "smoke", "--unroll.lr", "0.5"])
    assert isinstance(options, Config)
    assert options.preset == "smoke"
    assert options.steps == PRESETS["smoke"].steps
    assert options.unroll.lr == 0.5


def test_unknown_preset_ends_with_the_list(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--preset", "smok"])
    assert "there is no preset `smok`" in str(ended.value)
    assert "smoke" in str(ended.value)


@pytest.mark.parametrize("command", ["train", "evaluate", "export", "tasks", "predict", "edit"])
def test_help_teaches_every_option(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    options = [line for line in text.splitlines() if line.lstrip("│ ").startswith("--")]
    assert options
    assert f"python -m meta_train {command}" in text


def test_command_line_lists_commands():
    done = subprocess.run(
        [sys.executable, "-m", "meta_train", "--help"], capture_output=True, text=True, check=True
    )
    commands = "train evaluate export tasks predict edit emulate zoo relational"
    for command in commands.split():
        assert command in done.stdout


def test_a_wrong_option_ends_with_its_message(tmp_path):
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["train", "--preset", "smoke", "--families", "nope", "--folder", str(tmp_path / "run")]
        )
    assert "there is no family `nope`" in str(ended.value)
    assert "mlp" in str(ended.value)


@pytest.mark.parametrize("kind", ["inr", "cnn", "relational"])
def test_help_teaches_every_option_of_a_zoo(kind, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["zoo", kind, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in ("--folder", "--networks", "--seed", "--processes", "--device"):
        assert option in text


def test_zoo(tmp_path, capsys):
    tiny = ["--data", "digits", "--networks", "20", "--steps", "2", "--device", "cpu"]
    cli.main(["zoo", "inr", "--folder", str(tmp_path), *tiny])
    assert len(Zoo.open(tmp_path)) == 20
    with pytest.raises(SystemExit) as ended:
        cli.main(["zoo", "inr", "--folder", str(tmp_path), *tiny, "--seed", "1"])
    assert "holds another zoo: seed is 0, not 1" in str(ended.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_train_evaluate_export(tmp_path, capsys):
    run, rule = tmp_path / "run", tmp_path / "rule.safetensors"
    tiny = ["--families", "mlp:width=4,depth=1,batch=4", "--problems", "2", "--rule", "FF"]
    short = ["--steps", "2", "--truncation", "2", "--board.every", "0"]
    cli.main(["train", "--preset", "smoke", "--folder", str(run), *tiny, *short])
    cli.main(["export", str(run), str(rule)])
    card = json.loads(rule.with_suffix(".json").read_text())
    assert card["config"]
    assert rule.is_file()


def test_evaluate(tmp_path, capsys):
    given = ["--suites", "validation", "--tasks", "quadratic:size=2", "--rule", "--screen", "1"]
    options = cli.read(["evaluate", *given])
    assert (options.suites, options.rule, options.screen) == (("validation",), (), 1)
    tiny = ["--tasks", "mlp:width=4,depth=1,batch=4", "quadratic:size=2", "--steps", "2"]
    few = ["--problems", "1", "--opponents", "sgdm", "--rule", "SGDM", "--out", str(tmp_path)]
    cli.main(["evaluate", *tiny, *few])
    rows = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert [row["contestant"] for row in rows] == ["sgdm", "SGDM", "sgdm", "SGDM"]


def test_evaluate_without_tasks_ends_with_what_to_do(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate"])
    assert "--suites" in f"{ended.value}{capsys.readouterr().err}"
