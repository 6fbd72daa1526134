import doctest
import json
import shutil
from dataclasses import asdict

import pytest

from docs.make import evaluation as evaluation_module
from docs.make import results
from docs.make.page import DOCS, filled
from docs.make.results import blocks, kept, make, without_places
from tests.docs.make.made_up import NEAR, evaluation, row

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
def undrawn(monkeypatch):
    """Pictures take longer than all else; this keeps what would be drawn, by file name."""
    drawn = {}
    for name in ("plot", "plot_speed_ups"):
        monkeypatch.setattr(results, name, lambda content, path: drawn.update({path.name: content}))
    return drawn


@pytest.fixture
def docs(tmp_path):
    """A folder with the page, and nothing kept."""
    folder = tmp_path / "docs"
    folder.mkdir()
    shutil.copy(DOCS / "results.md", folder)
    return folder


def written(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def files(tmp_path):
    contents = {
        "evaluation.json": evaluation(),
        "paper-small.json": PAPER,
        "default.json": ABLATION,
        "report.json": WORKLOADS,
    }
    return [written(tmp_path / "given", name, content) for name, content in contents.items()]


def texts(docs):
    return {path.name: path.read_text() for path in (docs / "results").iterdir()}


def test_the_committed_page_is_what_the_committed_files_give():
    text = (DOCS / "results.md").read_text("utf-8")
    assert filled(text, blocks(kept(DOCS / "results"))) == text


def test_the_smaller_copies_alone_give_the_same_page(files, docs, undrawn):
    make(files, docs)
    assert texts(docs).keys() == {
        *("evaluation.json", "paper-small.json", "ablation-default.json", "workloads-report.json")
    }
    text = (docs / "results.md").read_text()
    undrawn.clear()
    make([], docs)
    assert (docs / "results.md").read_text() == text
    assert set(undrawn) == {"speed_ups.png"}


def test_what_is_given_anew_replaces_what_was_there_and_nothing_else(
    files, docs, undrawn, tmp_path
):
    make(files, docs)
    before = texts(docs)
    changed = {**PAPER, "scale": {**PAPER["scale"], "note": "Otherwise."}}
    make([written(tmp_path, "other/paper-small.json", changed)], docs)
    after = texts(docs)
    assert {name for name in before if before[name] != after[name]} == {"paper-small.json"}
    assert before.keys() == after.keys()
    assert "Otherwise." in (docs / "results.md").read_text()


def test_smaller_copies_have_neither_curves_nor_places(files, docs, undrawn):
    make(files, docs)
    for text in texts(docs).values():
        assert not [word for word in ("curves", "somewhere", "configs") if word in text]
    small = json.loads(texts(docs)["paper-small.json"])
    assert small["found"][0]["figures"]["to paper"]["accuracy"] == [0.12346]
    assert small["command"] == "python -m benchmarks.paper --scale small"
    small = json.loads(texts(docs)["evaluation.json"])
    assert (small["seed"], small["settings"]) == (5, 14)


def test_figures_that_are_not_finite_are_kept_as_null(docs, undrawn, tmp_path):
    given = [row("adamw", NEAR[0], 1.0), row("default", NEAR[0], 1.0, error=float("nan"))]
    make([written(tmp_path, "evaluation.json", evaluation(given))], docs)
    assert [r["error"] for r in json.loads(texts(docs)["evaluation.json"])["rows"]] == [0.01, None]


def test_everything_is_on_the_page_and_words_by_hand_stay(files, docs, undrawn):
    before = (DOCS / "results.md").read_text()
    make(files, docs)
    text = (docs / "results.md").read_text()
    remarks = before.split("## Remarks")[1].split("## Every task")[0].split("<!--")[0]
    assert len(remarks) > 1000
    assert remarks in text
    for said in ("12.35", "+25.0 %", "## Ablation", "python -m benchmarks.ablation"):
        assert said in text
    assert "nan" not in text
    assert "| own rate, all | 1 | 0 | 1 | 0.25 | 0.50 | 1.25 |" in text
    line = next(line for line in text.splitlines() if line.startswith("| `siren`"))
    assert "| 30 ± 0.12 | **35.5 ± 0.12** | 0.38 | 0.38 | 29 ± 0.12 (worse) | - | - |" in line


def test_curves_of_six_tasks_from_the_fastest_to_the_slowest(files, docs, undrawn):
    make(files, docs)
    small = json.loads(texts(docs)["evaluation.json"])
    rows = [r for r in small["rows"] if r["contestant"] == "default"]
    speeds = {(r["suite"], r["task"]): r["speed_up"] for r in rows}
    shown = [speeds[tuple(entry)] for entry in small["pictured"]]
    assert len(undrawn["curves.png"]) == len(shown) == 6
    assert shown == sorted(shown, reverse=True)
    assert (shown[0], shown[-1]) == (max(speeds.values()), min(speeds.values()))
    assert all(set(curves) == {"adamw", "default"} for curves in undrawn["curves.png"].values())


def test_pictures_are_drawn(docs, tmp_path):
    rows = [row(name, NEAR[0], 1.0) for name in ("adamw", "default")]
    content = evaluation(rows)
    content["curves"][f"near: {NEAR[0]}"]["default"][3] = float("nan")  # diverged
    make([written(tmp_path, "evaluation.json", content)], docs)
    for name in ("speed_ups.png", "curves.png"):
        assert (docs / "images" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("content", ["{", "{}", '{"rows": 1}', '{"criterion": 1, "command": ""}'])
def test_other_files_are_refused(content, docs, tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(SystemExit, match=r"cannot use .*evaluation\.json"):
        make([str(path)], docs)
    with pytest.raises(SystemExit, match="cannot use"):
        make([str(tmp_path / "missing.json")], docs)


def test_commands_keep_what_counts():
    text = "python -m meta_train evaluate --rule default 'MatrixGNN:rounds=0' --cache c --steps 3"
    assert without_places(text) == text.replace("'", "").replace(" --cache c", "")
    with pytest.raises(ValueError, match=r"place of one machine, /runs/default"):
        without_places("python -m meta_train evaluate --rule /runs/default")


@pytest.mark.parametrize("module", [results, evaluation_module])
def test_examples_in_docstrings(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
