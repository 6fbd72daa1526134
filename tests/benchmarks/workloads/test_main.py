import doctest
import importlib
import json
import os
import pkgutil
from dataclasses import replace

import pytest

from benchmarks import workloads
from benchmarks.workloads import __main__ as command
from benchmarks.workloads import trained
from benchmarks.workloads.__main__ import Options, do
from meta_train.errors import MetaTrainError
from meta_train.shared_files import claim
from tests.benchmarks.workloads.toy import toy


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Of two toys, one of which lacks its data."""

    def missing(seed):
        raise MetaTrainError("there is no file of toys.")

    found = {"toy": toy(), "bare": toy(name="bare", build=missing)}
    monkeypatch.setattr(command, "discovered", lambda: (found, {"toad": ImportError("no toad")}))
    monkeypatch.setattr(trained, "shelf", trained.Shelf(tmp_path))
    return Options(optimizers=("recipe", "ngopt"), seeds=(0, 1), folder=tmp_path)


def files(options):
    return {path.stem: path for path in (options.folder / "toy").glob("*.json")}


def times(options):
    return {name: path.stat().st_mtime_ns for name, path in files(options).items()}


def test_each_run_has_a_file(options, capsys):
    assert do(options) == 0
    assert set(files(options)) == {"recipe-0", "recipe-1", "ngopt-0", "ngopt-1"}
    content = json.loads(files(options)["ngopt-1"].read_text())
    assert len(content["losses"]) == 8
    assert {"command", "commit", "torch"} <= set(content)
    text = capsys.readouterr().out
    assert "Left out: bare. there is no file of toys." in text
    assert "Left out: toad.py. no toad" in text
    assert "| `ngopt` |" in (options.folder / "report.md").read_text()


def test_what_is_done_is_not_done_again(options):
    do(options)
    before = times(options)
    files(options)["ngopt-1"].unlink()
    do(options)
    changed = {name for name, time in times(options).items() if before[name] != time}
    assert changed == {"ngopt-1"}


def test_again(options):
    do(options)
    for path in files(options).values():
        os.utime(path, (0, 0))
    do(replace(options, again=("ngopt",)))
    assert {name for name, time in times(options).items() if time} == {"ngopt-0", "ngopt-1"}


def test_other_steps_are_another_run(options):
    do(replace(options, steps=4))
    assert len(json.loads(files(options)["ngopt-0"].read_text())["losses"]) == 4
    do(options)
    assert len(json.loads(files(options)["ngopt-0"].read_text())["losses"]) == 8


def test_tiny_runs_are_kept_apart(options):
    do(replace(options, tiny=True))
    assert not files(options)
    assert (options.folder / "tiny" / "toy" / "ngopt-0.json").is_file()


def test_what_another_process_does_is_left_to_it(options):
    pytest.importorskip("fcntl")
    with claim(options.folder / "toy" / "recipe-0.json") as free:
        assert free
        do(options)
    assert set(files(options)) == {"recipe-1", "ngopt-0", "ngopt-1"}


def test_what_is_named_must_be_there(options):
    with pytest.raises(MetaTrainError, match="no file of toys"):
        do(replace(options, names=("bare",)))
    with pytest.raises(MetaTrainError, match="needs a package that is missing: no toad"):
        do(replace(options, names=("toad",)))
    with pytest.raises(MetaTrainError, match="Choose from bare, toy"):
        do(replace(options, names=("boat",)))


def test_a_run_that_fails_is_told_and_the_others_go_on(options, monkeypatch, capsys):
    def fail(model, recipe, steps):
        raise RuntimeError("out of paint")

    monkeypatch.setitem(command.OPTIMIZERS, "recipe", fail)
    assert do(replace(options, names=("toy",))) == 2
    assert set(files(options)) == {"ngopt-0", "ngopt-1"}
    assert "Failed: toy, recipe, seed 1: out of paint" in capsys.readouterr().out


def test_an_optimizer_whose_package_is_missing_is_left_out(options, monkeypatch, capsys):
    def absent(model, recipe, steps):
        raise ImportError("it is not installed")

    monkeypatch.setitem(command.OPTIMIZERS, "recipe", absent)
    assert do(replace(options, names=("toy",))) == 0
    assert capsys.readouterr().out.count("Left out: recipe. it is not installed") == 1


@pytest.mark.parametrize("name", sorted(i.name for i in pkgutil.iter_modules(workloads.__path__)))
def test_examples_in_docstrings(name):
    if name == "__main__":
        pytest.skip("has none")
    try:
        module = importlib.import_module(f"{workloads.__name__}.{name}")
    except ImportError as missing:
        pytest.skip(str(missing))
    assert doctest.testmod(module).failed == 0
