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


def test_help_imports_nothing_that_takes_long():
    code = "import sys, meta_train.cli as c; c.overview(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_help_has_a_line_for_each_preset(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    lines = capsys.readouterr().out.splitlines()
    for name in PRESETS:
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        assert line.split()[1:], name


def test_an_unknown_command_ends_with_the_list():
    with pytest.raises(SystemExit) as ended:
        cli.main(["trian"])
    assert "there is no command `trian`" in str(ended.value)
    assert "train" in str(ended.value)


@pytest.mark.parametrize("missing", ["tyro", "tqdm"])
def test_without_the_extra_the_message_says_what_to_install(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    for name in [name for name in sys.modules if name.startswith("meta_train.list_tasks")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as ended:
        cli.main(["tasks"])
    assert f"`{missing}`, which is not installed" in str(ended.value)
    assert 'pip install "ngopt[meta-train]"' in str(ended.value)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--preset", "smoke", "--folder", str(tmp_path / "file" / "run")])
    assert f"cannot make the folder `{tmp_path / 'file' / 'run'}`" in str(ended.value)
    assert "Give another folder" in str(ended.value)


def test_options_of_training_that_make_no_sense_end_with_a_message(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--unroll.lr", "-1"])
    said = " ".join(f"{ended.value}{capsys.readouterr().err}".replace("│", " ").split())
    assert "Use lr >= 0" in said


def test_subcommands_of_zoo_are_listed_once(capsys):
    with pytest.raises(SystemExit):
        cli.main(["zoo", "--help"])
    text = capsys.readouterr().out
    for kind in ("Sine networks", "Convolutional networks", "LSTMs", "wired as graphs"):
        assert text.count(kind) == 1


def test_ctrl_c_ends_with_what_was_said(monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt("Stopped. The checkpoint is of outer step 3.")

    monkeypatch.setattr("meta_train.list_tasks.run_tasks", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main(["tasks"])
    assert ended.value.code == "Stopped. The checkpoint is of outer step 3."


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
    usual = tmp_path / "usual"
    usual.touch()
    for path in (rule, rule.with_suffix(".json")):
        assert path.stat().st_mode == usual.stat().st_mode


def test_evaluate(tmp_path, capsys):
    given = ["--suites", "validation", "--tasks", "quadratic:size=2", "--rule", "--screen", "1"]
    options = cli.read(["evaluate", *given])
    assert (options.suites, options.rule, options.screen) == (("validation",), (), 1)
    assert cli.read(["evaluate", "--rings", "near"]).suites == ("near",)  # their name of old
    tiny = ["--tasks", "mlp:width=4,depth=1,batch=4", "quadratic:size=2", "--steps", "2"]
    few = ["--problems", "1", "--opponents", "sgdm", "--rule", "SGDM", "--out", str(tmp_path)]
    cli.main(["evaluate", *tiny, *few])
    rows = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert [row["contestant"] for row in rows] == ["sgdm", "SGDM", "sgdm", "SGDM"]


def test_evaluate_without_tasks_ends_with_what_to_do(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate"])
    assert "--suites" in f"{ended.value}{capsys.readouterr().err}"
