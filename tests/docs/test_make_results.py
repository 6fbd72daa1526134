import doctest
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from docs import make_results, results_figures
from docs.make_results import DOCS, as_text, make, pictured, rounded, sources, without_places
from docs.results_page import page
from meta_train.errors import MetaTrainError
from tests.docs.results import NEAR, evaluation, row


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures take longer than all else; this keeps what would be drawn, by file name."""
    drawn = {}
    for name in ("plot", "plot_speed_ups"):
        monkeypatch.setattr(
            make_results, name, lambda content, path: drawn.update({path.name: content})
        )
    return drawn


def written(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


ABLATION = {
    "command": "python -m benchmarks.ablation --out results/a",
    "options": {"folder": "/somewhere"},
    "found": [
        {
            "method": name,
            "seed": seed,
            "theta": "0",
            "rule": "MatrixGNN",
            "outer_steps": 2000,
            "inner_steps": 20000,
            "figures": {f"near: {NEAR[0]}": {**asdict(row(name, NEAR[0], train)), "error": None}},
        }
        for name, seed, train in (("adamw", None, 1.5), ("base", 0, 1.0), ("graph-off", 0, 1.25))
    ],
}
PAPER = {
    "command": "python -m benchmarks.paper --folder=/somewhere --scale small",
    "scale": {
        "note": "Smaller than the paper.",
        "configs": {"ff": {"folder": "/somewhere"}},
        "networks": [{"table": t, "name": f"to {t}", "family": "f"} for t in ("paper", "transfer")],
        "budgets": {
            table: {"steps": 1000, "problems": 1, "seed": 0, "batches": 64}
            for table in ("paper", "transfer")
        },
    },
    "found": [
        {
            "method": "adam",
            "seed": None,
            "theta": "0",
            "figures": {
                "to paper": {"accuracy": [0.123456789], "setting": "lr 0.01", "at_edge": False}
            },
        }
    ],
}

WORKLOADS = {
    "command": "python -m benchmarks.workloads --folder /somewhere",
    "curves": {"siren": []},
    "summaries": [
        {
            "optimizer": name,
            "task": "all",
            "workloads": 1,
            "worse": 0,
            "better": 1,
            "never": 0,
            "steps": steps,
            "seconds": 0.5,
            "cost": 1.25,
            "early": 1.0,
        }
        for name, steps in (("recipe", 1.0), ("ngopt", 0.25))
    ],
    "rows": [
        {
            "workload": "siren",
            "task": "fresh",
            "optimizer": name,
            "length": 100,
            "seeds": 2,
            "diverged": 0,
            "final": final,
            "spread": 0.125,
            "steps": steps,
            "seconds": steps,
            "cost": 1.0,
            "early": 1.0,
            "verdict": verdict,
        }
        for name, final, steps, verdict in (
            ("recipe", 30.0, 1.0, "same"),
            ("ngopt", 35.5, 0.375, "better"),
            ("swap", 29.0, None, "worse"),
        )
    ],
}


@pytest.fixture
def files(tmp_path):
    return {
        "evaluation": written(tmp_path, "given/evaluation.json", evaluation()),
        "papers": [written(tmp_path, "given/paper-small.json", PAPER)],
        "ablations": [written(tmp_path, "given/default.json", ABLATION)],
        "workloads": [written(tmp_path, "given/report.json", WORKLOADS)],
        "docs": tmp_path / "docs",
    }


def test_the_committed_page_is_what_the_committed_files_give():
    found, path = sources(DOCS / "results"), DOCS / "results.md"
    if found.evaluation or found.papers or found.ablations or found.workloads:
        assert path.read_text(encoding="utf-8") == page(found)
    else:
        assert not path.exists()


def test_the_compact_files_alone_give_the_same_page(files, undrawn):
    make(**files)
    docs = files["docs"]
    assert {path.name for path in (docs / "results").iterdir()} == {
        "evaluation.json",
        "paper-small.json",
        "ablation-default.json",
        "workloads-report.json",
    }
    text = (docs / "results.md").read_text()
    (docs / "results.md").unlink()
    undrawn.clear()
    make(None, [], [], docs)
    assert (docs / "results.md").read_text() == text
    assert set(undrawn) == {"speed_ups.png"}


def test_what_is_given_anew_replaces_what_was_there_and_nothing_else(files, undrawn, tmp_path):
    make(**files)
    before = {path.name: path.read_text() for path in (files["docs"] / "results").iterdir()}
    changed = {**PAPER, "scale": {**PAPER["scale"], "note": "Otherwise."}}
    make(None, [written(tmp_path, "other/paper-small.json", changed)], [], files["docs"])
    after = {path.name: path.read_text() for path in (files["docs"] / "results").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"paper-small.json"}
    assert before.keys() == after.keys()
    assert "Otherwise." in (files["docs"] / "results.md").read_text()


def test_compact_files_have_neither_curves_nor_places(files, undrawn):
    make(**files)
    for path in (files["docs"] / "results").iterdir():
        text = path.read_text()
        assert not [word for word in ("curves", "somewhere", "configs") if word in text]
    kept = json.loads((files["docs"] / "results" / "paper-small.json").read_text())
    assert kept["found"][0]["figures"]["to paper"]["accuracy"] == [0.12346]
    assert kept["command"] == "python -m benchmarks.paper --scale small"
    kept = json.loads((files["docs"] / "results" / "evaluation.json").read_text())
    assert (kept["seed"], kept["settings"]) == (5, 14)


def test_one_page_has_everything(files, undrawn):
    make(**files)
    text = (files["docs"] / "results.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        *("## Groups of tasks", "## Workloads", "## Floors and goals", "## What it is good at"),
        *("## What it is bad at", "## What was measured", "## Every task", "## Curves"),
        *("## From FashionMNIST to CIFAR-10", "## Ablation", "## Commands"),
    ]
    assert "12.35" in text
    assert "+25.0 %" in text
    assert "nan" not in text


def test_remarks_become_part_of_the_page(files, undrawn):
    written(files["docs"], "results/remarks.md", {})
    (files["docs"] / "results" / "remarks.md").write_text("It is good at this.\n")
    make(**files)
    assert "\n## Remarks\n\nIt is good at this.\n" in (files["docs"] / "results.md").read_text()


def test_curves_of_six_tasks_from_the_fastest_to_the_slowest(files, undrawn):
    make(**files)
    titles = list(undrawn["curves.png"])
    assert len(titles) == 6
    compact = json.loads((files["docs"] / "results" / "evaluation.json").read_text())
    speeds = {
        (r["suite"], r["task"]): r["speed_up"]
        for r in compact["rows"]
        if r["contestant"] == "default"
    }
    shown = [speeds[tuple(entry)] for entry in compact["pictured"]]
    assert shown == sorted(shown, reverse=True)
    assert (shown[0], shown[-1]) == (max(speeds.values()), min(speeds.values()))
    assert all(set(curves) == {"adamw", "default"} for curves in undrawn["curves.png"].values())


def test_few_tasks_and_no_rule_can_be_pictured_too():
    rows = [row(name, task, 1.0) for task in NEAR[:2] for name in ("adamw", "default")]
    compact = make_results.compact_evaluation(evaluation(rows))
    assert [task for _, task in compact["pictured"]] == list(NEAR[:2])
    alone = make_results.compact_evaluation(evaluation([row("adamw", NEAR[0], 1.0)]))
    assert pictured(alone) == []


def test_pictures_are_drawn(tmp_path):
    rows = [row(name, NEAR[0], 1.0) for name in ("adamw", "default")]
    make(written(tmp_path, "evaluation.json", evaluation(rows)), [], [], tmp_path / "docs")
    for name in ("speed_ups.png", "curves.png"):
        picture = tmp_path / "docs" / "images" / name
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_results_nothing_is_written(tmp_path):
    with pytest.raises(MetaTrainError, match="there are no results"):
        make(None, [], [], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "{}", '{"rows": 1}'])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(MetaTrainError, match=r"evaluation\.json"):
        make(path, [], [], tmp_path / "docs")


def test_commands_keep_what_counts():
    text = "python -m meta_train evaluate --rule default 'MatrixGNN:rounds=0' --cache c --steps 3"
    assert without_places(text) == text.replace("'", "").replace(" --cache c", "")
    with pytest.raises(MetaTrainError, match=r"place of one machine, /runs/default"):
        without_places("python -m meta_train evaluate --rule /runs/default")


def test_small_numbers_keep_their_digits():
    assert rounded([1.23456789e-9, 123456789, True, None, "x", float("inf")]) == [
        *(1.2346e-9, 123456789, True, None, "x", None)
    ]


def test_json_has_a_line_for_each_entry():
    content = {"a": [{"b": 1}, {"b": [2, 3]}], "c": {"d": 4}, "e": []}
    assert json.loads(as_text(content)) == content
    assert len(as_text(content).splitlines()) == 8


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], (None, [], [], [])),
        (
            [
                "e.json",
                "--paper",
                "p.json",
                "q.json",
                "--ablation",
                "a.json",
                "--workloads",
                "w.json",
            ],
            (
                Path("e.json"),
                [Path("p.json"), Path("q.json")],
                [Path("a.json")],
                [Path("w.json")],
            ),
        ),
    ],
)
def test_command_line(arguments, given, monkeypatch):
    seen = []
    monkeypatch.setattr(
        make_results, "make", lambda *paths, workloads: seen.append((*paths, workloads))
    )
    monkeypatch.setattr("sys.argv", ["make_results.py", *arguments])
    make_results.main()
    assert seen == [given]


def test_errors_end_the_program_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["make_results.py", str(tmp_path / "missing.json")])
    with pytest.raises(SystemExit, match="cannot read"):
        make_results.main()


@pytest.mark.parametrize("module", [make_results, results_figures])
def test_examples_in_docstrings(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_workloads_with_those_that_never_get_there(files, undrawn):
    make(**files)
    text = (files["docs"] / "results.md").read_text()
    assert "| own rate, all | 1 | 0 | 1 | 0.25 | 0.50 | 1.25 |" in text
    line = next(line for line in text.splitlines() if line.startswith("| `siren`"))
    assert "| 30 ± 0.12 | 35.5 ± 0.12 | better | 0.38 | 0.38 | 29 ± 0.12 | worse | - | - |" in line
