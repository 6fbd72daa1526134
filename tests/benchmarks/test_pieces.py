import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.pieces import Figures, Piece, collected, with_options, write
from meta_train.config import Config
from meta_train.errors import MetaTrainError
from meta_train.inner_stacks import Lengths
from ngopt.rules import FF

TINY = Config(
    frozen=(),
    rule="FF:hidden=2,layers=1",
    families=("mlp:width=4,depth=1,batch=4",),
    steps=2,
    stacks=1,
    problems=1,
    truncation=2,
    lengths=Lengths(4, 4),
)


@pytest.mark.parametrize(
    ("text", "options", "changed"),
    [
        ("FF", {"seed": 1}, "FF:seed=1"),
        ("FF:hidden=2,seed=0", {"seed": 1}, "FF:hidden=2,seed=1"),
        ("FF", {"positions": ("depth", "fans")}, "FF:positions=depth|fans"),
        ("MatrixGNN", {"base_update": {"slow": 0.0}}, "MatrixGNN:base_update={'slow': 0.0}"),
        (
            "MatrixGNN:base_update={'slow': 1.0}",
            {"base_update": {"slow": 0.0}},
            "MatrixGNN:base_update={'slow': 0.0}",
        ),
    ],
)
def test_options_of_a_rule(text, options, changed):
    assert with_options(text, options) == changed


def test_seeds_and_folders_are_the_pieces_own(tmp_path):
    one, two = (Piece.of("ff", seed, TINY, tmp_path, "cpu") for seed in (1, 2))
    assert one.config.folder != two.config.folder
    assert (one.config.seed, one.config.rule) == (1, "FF:hidden=2,layers=1,seed=1")
    assert replace(two.config, seed=1, rule=one.config.rule, folder=one.config.folder) == one.config


def test_a_piece_is_finished_after_its_last_step(tmp_path):
    piece = Piece.of("ff", 3, TINY, tmp_path, "cpu")
    assert piece.finished() is None
    piece.meta_train()
    found = piece.finished()
    assert found is not None
    rule, facts = found
    assert rule.config["seed"] == 3
    assert facts["weights"] == sum(weight.numel() for weight in rule.parameters())
    assert (facts["method"], facts["outer_steps"], facts["inner_steps"]) == ("ff", 2, 4)
    assert facts["seconds"] > 0
    longer = replace(piece, config=replace(piece.config, steps=3))
    assert longer.finished() is None
    shorter = replace(piece, config=replace(piece.config, steps=1))
    with pytest.raises(MetaTrainError, match="has 2 outer steps, more than the 1 asked for"):
        shorter.meta_train()


def test_figures_of_another_theta_are_forgotten(tmp_path):
    path = tmp_path / "new" / "ff.json"
    Figures(path, FF(seed=1), {"method": "ff"}).add("a", 1)
    Figures(path, FF(seed=1), {"method": "ff"}).add("b", [2])
    assert collected(path.parent)[0]["figures"] == {"a": 1, "b": [2]}
    Figures(path, FF(seed=2), {"method": "ff"}).add("b", 3)
    (content,) = collected(path.parent)
    assert content["figures"] == {"b": 3}
    assert content["method"] == "ff"


def test_results_are_strict_json(tmp_path, capsys):
    out = tmp_path / "new" / "paper-0.5"
    write(out, {"bad": math.nan, "path": Path("a")}, "a table")
    content = json.loads(Path(f"{out}.json").read_text())
    assert (content["bad"], content["path"]) == (None, "a")
    assert content["command"]
    assert Path(f"{out}.md").read_text() == "a table"
    assert "a table" in capsys.readouterr().out
