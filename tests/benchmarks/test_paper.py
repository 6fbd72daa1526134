import json
from dataclasses import replace

import pytest

from benchmarks import paper
from benchmarks.paper import Options, cell, markdown, run
from benchmarks.paper_scales import Network, Scale
from meta_train import baselines
from meta_train.curves import Budget
from meta_train.rules import newest
from tests.benchmarks.test_pieces import TINY

NETWORK = "convnet:data=digits,size=8,width=2,depth=1,batch=4"
SCALE = Scale(
    "Tiny.",
    {"ff": TINY, "matrix_gnn": replace(TINY, rule="MatrixGNN:width=2,rounds=1,hidden=2")},
    (
        Network("paper", "known", NETWORK),
        Network("paper", "unseen", NETWORK.replace("width=2", "width=4")),
        Network("transfer", "deep", NETWORK.replace("depth=1", "depth=2")),
    ),
    {"paper": Budget(3, 2, batches=1), "transfer": Budget(2, 1, batches=1)},
)
OPTIONS = Options(methods=("adam", "ff", "matrix_gnn", "default"), seeds=(0, 1), device="cpu")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    options = replace(OPTIONS, folder=folder / "runs", out=folder / "results" / "tiny")
    run(options, SCALE)
    return options


def lines(options):
    text = options.out.with_suffix(".md").read_text()
    return [line for line in text.splitlines() if line.startswith("|")]


def test_rows_and_columns(done):
    rows = lines(done)
    assert rows[0].split("|")[2:-1] == [" known ", " unseen "]
    assert [row.split("|")[1].strip() for row in rows[2:6]] == [
        "Adam, tuned",
        "FF",
        "MatrixGNN",
        "`default`",
    ]
    assert "| deep |" in rows[6]
    assert "`FF:hidden=2,layers=1,seed=0`" in rows[-2]
    assert "| 0, 1 | 2 | 4 |" in rows[-2]
    assert all("± " in row for row in rows[2:6])


def test_figures_are_of_each_inner_run_of_each_meta_seed(done):
    content = json.loads(done.out.with_suffix(".json").read_text())
    assert [(f["method"], f["seed"]) for f in content["found"]] == [
        ("adam", None),
        ("default", None),
        *(("ff", 0), ("ff", 1)),
        *(("matrix_gnn", 0), ("matrix_gnn", 1)),
    ]
    for found in content["found"]:
        assert [len(f["accuracy"]) for f in found["figures"].values()] == [2, 2, 1]
    ff, other = (content["found"][number]["figures"] for number in (2, 4))
    assert ff["known"]["train"] != other["known"]["train"]


def test_going_on_computes_nothing_again(done, monkeypatch):
    before = lines(done)

    def computed(*_):
        raise AssertionError

    monkeypatch.setattr(baselines, "curves", computed)
    done.out.with_suffix(".md").unlink()
    run(done, SCALE)
    assert lines(done) == before


def test_a_run_that_is_cut_short_goes_on(done, tmp_path):
    options = replace(
        done, folder=tmp_path / "runs", only=("meta-train",), methods=("ff",), seeds=(0,)
    )
    run(options, replace(SCALE, configs={"ff": replace(TINY, steps=1)}))
    cut = newest(options.folder / "runs" / "ff-0")
    assert cut["step"] == 1
    run(options, SCALE)
    whole, resumed = (newest(folder / "runs" / "ff-0") for folder in (done.folder, options.folder))
    assert all(whole["theta"][name].equal(theta) for name, theta in resumed["theta"].items())
    assert not all(whole["theta"][name].equal(theta) for name, theta in cut["theta"].items())


def test_what_is_not_meta_trained_is_left_out(tmp_path, capsys):
    options = replace(
        OPTIONS,
        folder=tmp_path,
        out=tmp_path / "results" / "tiny",
        only=("evaluate", "table"),
        tables=("transfer",),
    )
    run(options, SCALE)
    assert "ff, seed 1: not meta-trained yet." in capsys.readouterr().out
    rows = lines(options)
    assert [row.split("|")[1].strip() for row in rows if "Adam" in row] == ["Adam, tuned"] * 2
    assert not any("FF" in row for row in rows)
    assert rows[2].split("|")[2:-1] == [" - ", " - "]


def found(method, seed, *accuracies):
    figure = {"accuracy": list(accuracies), "setting": "lr 1", "at_edge": True}
    facts = {"rule": method, "weights": 1, "outer_steps": 1, "inner_steps": 1, "seconds": 60.0}
    return {"method": method, "seed": seed, "figures": {"known": figure}, **facts}


def test_a_table_has_as_many_networks_as_a_page_can_show(done):
    names = [f"width {width}" for width in range(7)]
    scale = replace(SCALE, networks=tuple(Network("transfer", n, NETWORK) for n in names))
    text = markdown(paper.collected(done.folder / "figures"), scale)
    shown = [line for line in text.splitlines() if line.startswith("|  | width")]
    assert shown == [f"|  | {' | '.join(part)} |" for part in (names[:5], names[5:])]


def test_deviation_is_over_meta_seeds():
    contents = [found("ff", 0, 0.1, 0.3), found("ff", 1, 0.4, 0.4)]
    assert cell(contents, "known") == "30.00 ± 14.14"
    assert cell(contents[:1], "known") == "20.00 ± 14.14"
    assert cell([found("ff", 0, 0.25)], "known") == "25.00"
    assert cell(contents, "unseen") == "-"


def test_meta_seeds_that_are_missing_are_counted():
    contents = [found("ff", seed, 0.1) for seed in range(3)]
    contents[1]["figures"] = {}
    assert cell(contents, "known") == "10.00 ± 0.00 (2)"
    contents[0]["figures"] = {}
    assert cell(contents, "known") == "10.00 (1)"


def test_adam_at_the_edge_of_its_sweep_is_said():
    text = markdown([found("adam", None, 0.5, 0.6), found("ff", 0, 0.5)], SCALE)
    assert "known: lr 1 (the edge of what was tried)" in text


def test_accuracy_of_a_diverged_run_is_zero(tmp_path, monkeypatch):
    whole = paper.tuned

    def with_one_diverged(*arguments):
        best = whole(*arguments)
        best.curve.measured["test"]["accuracy"][0] = float("nan")
        best.curve.diverged[0] = True
        return best

    monkeypatch.setattr(paper, "tuned", with_one_diverged)
    paper.evaluate("transfer", [], ["adam"], tmp_path, SCALE, "cpu")
    figure = json.loads((tmp_path / "figures" / "adam.json").read_text())["figures"]["deep"]
    assert figure["accuracy"] == [0.0]
    assert figure["diverged"] == 1
