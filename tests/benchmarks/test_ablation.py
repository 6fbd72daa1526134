import json
from dataclasses import asdict, replace

import pytest

from benchmarks import ablation
from benchmarks.ablation import VARIANTS, Options, markdown, run, variants
from meta_train import baselines
from meta_train.comparison import Row
from meta_train.curves import Budget
from meta_train.errors import MetaTrainError
from meta_train.presets import PRESETS
from meta_train.rules import rule_of
from tests.benchmarks.test_pieces import TINY

OPTIONS = Options(
    preset="tiny",
    variants=("base", "graph-off"),
    suites=(),
    tasks=("mlp:width=4,depth=1,batch=4",),
    inner_steps=3,
    problems=1,
    device="cpu",
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    config = replace(TINY, rule="MatrixGNN:width=2,hidden=2")
    monkeypatch.setitem(PRESETS, "tiny", config)


def test_every_variant_changes_what_it_says_and_nothing_else(tmp_path):
    base = rule_of("MatrixGNN:width=2,hidden=2").config
    pieces = variants(replace(OPTIONS, variants=tuple(VARIANTS)), tmp_path)
    changed = {}
    for piece in pieces:
        config = rule_of(piece.config.rule).config
        assert config["width"] == 2
        changed[piece.method] = {key for key in base if config[key] != base[key]}
    assert changed.pop("base") == set()
    assert changed["graph-off"] == {"graph_context"}
    assert rule_of("MatrixGNN:positions=()").config["positions"] == []
    for name, keys in changed.items():
        # Squares are in float32 in the base already.
        assert keys == set(VARIANTS[name]) - {"square_dtype"} or name == "squares-bfloat16", name
    # As they are in the base anyway.
    assert set(VARIANTS) - {"base", *changed} == {"rounds-2", "momenta-bfloat16"}


def test_budget_is_the_same_for_all(tmp_path):
    options = replace(OPTIONS, variants=tuple(VARIANTS), steps=7, seeds=(0, 1))
    pieces = variants(options, tmp_path)
    assert len({piece.config.folder for piece in pieces}) == len(pieces)
    for seed in (0, 1):
        configs = [piece.config for piece in pieces if piece.seed == seed]
        alike = {replace(config, rule="", folder=tmp_path) for config in configs}
        assert len(alike) == 1
        assert alike.pop().steps == 7


def test_another_rule_than_the_presets_is_taken_apart(tmp_path):
    options = replace(OPTIONS, rule="MatrixGNN:width=3", variants=("base", "graph-off"))
    rules = [piece.config.rule for piece in variants(options, tmp_path)]
    assert rules == [
        "MatrixGNN:width=3,seed=0",
        "MatrixGNN:width=3,graph_context=False,seed=0",
    ]


def test_what_a_variant_lacks_is_not_frozen(tmp_path, monkeypatch):
    config = replace(PRESETS["tiny"], frozen=("start", "rounds"))
    monkeypatch.setitem(PRESETS, "tiny", config)
    pieces = variants(replace(OPTIONS, variants=("base", "rounds-0")), tmp_path)
    assert [piece.config.frozen for piece in pieces] == [("start", "rounds"), ("start",)]


@pytest.mark.parametrize("wrong", [{"preset": "none"}, {"variants": ("none",)}])
def test_unknown_names_are_refused(wrong, tmp_path):
    with pytest.raises(MetaTrainError, match=r"there is no (preset|variant) `none`"):
        variants(replace(OPTIONS, **wrong), tmp_path)


def test_in_three_parts(tmp_path, monkeypatch, capsys):
    out = tmp_path / "results" / "ablation"
    options = replace(OPTIONS, folder=tmp_path / "runs", out=out)
    run(replace(options, only=("meta-train",), variants=("base",)))
    run(replace(options, only=("evaluate",)))
    assert "graph-off, seed 0: not meta-trained yet." in capsys.readouterr().out
    run(options)
    text = out.with_suffix(".md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    assert rows == ["", "---", "adamw", "base", "graph-off"]
    content = json.loads(out.with_suffix(".json").read_text())
    assert [found["method"] for found in content["found"]] == ["adamw", "base", "graph-off"]

    def computed(*_):
        raise AssertionError

    monkeypatch.setattr(baselines, "curves", computed)
    run(replace(options, only=("evaluate", "table")))
    assert out.with_suffix(".md").read_text() == text


def row(task, train, speed_up, suite="near"):
    figures = dict.fromkeys(("error", "held_out", "test", "relative_test"), 1.0)
    return Row(
        suite=suite,
        task=task,
        budget=Budget(),
        contestant="it",
        setting="",
        at_edge=False,
        train=train,
        relative_train=train / 2,
        accuracy=None,
        worse=False,
        stalled=1,
        diverged=0,
        steps=None,
        speed_up=speed_up,
        **figures,
    )


def content(method, seed, *rows):
    figures = {f"{row.suite}: {row.task}": asdict(row) for row in rows}
    facts = {"rule": "R", "outer_steps": 1, "inner_steps": 1}
    return {"method": method, "seed": seed, "figures": json.loads(json.dumps(figures)), **facts}


def test_figures_of_the_table():
    text = markdown(
        [
            {**content("adamw", None, row("a", 1.0, 1.0), row("b", 4.0, 1.0)), "seed": None},
            content("base", 0, row("a", 1.0, 2.0), row("b", 1.0, 4.0), row("c", 3.0, 0, "far")),
            content("base", 1, row("a", 2.0, 3.0), row("b", 2.0, 3.0)),
            content("graph-off", 1, row("a", 2.0, 1.0), row("b", 8.0, 2.0)),
        ]
    )
    near, far = text.split("## near")[1].split("## far")
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in near.splitlines()[4:-1]}
    # Against the base of seed 0: sqrt(1 * 4) = 2; of seed 1: sqrt(1/2 * 2) = 1.
    assert cells["adamw"][3].strip() == "+50.0 ± 70.7 %"
    assert [cell.strip() for cell in cells["base"][:4]] == ["2", "0.7500", "3.00", "+0.0 ± 0.0 %"]
    # Against the base of its own seed: sqrt(1 * 4) = 2.
    assert [cell.strip() for cell in cells["graph-off"][2:5]] == ["1.50", "+100.0 %", "0"]
    assert cells["graph-off"][5].strip() == "2"
    assert "base" in far
    assert "graph-off" not in far


def test_there_is_no_table_without_the_base():
    with pytest.raises(MetaTrainError, match="base is not evaluated"):
        markdown([content("graph-off", 0, row("a", 1.0, 1.0))])


def test_options_can_be_read_from_the_command_line(monkeypatch):
    given = []
    monkeypatch.setattr(ablation, "run", given.append)
    monkeypatch.setattr("sys.argv", ["ablation", "--steps", "5", "--seeds", "1", "2"])
    ablation.main()
    assert given == [Options(steps=5, seeds=(1, 2))]
