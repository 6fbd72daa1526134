import json
import re
import shutil

import pytest

from docs.make import compatibility
from docs.make.compatibility import blocks, contestant, count, make, read
from docs.make.page import DOCS, ROOT, filled, rows

KEPT = DOCS / "results" / "compatibility.json"
JUNIT = """<testsuites><testsuite>
<testcase classname="tests.optim.test_fuzz" name="test_one"/>
<testcase classname="tests.optim.test_fuzz" name="test_two">
<skipped message="slow | now"/></testcase>
<testcase classname="tests.optim.test_fuzz" name="test_three[a]"><failure message="no"/></testcase>
<testcase classname="tests.optim.test_fuzz" name="test_four"><error message="no"/></testcase>
<testcase classname="tests.scale_out.test_scale_out" name="test_data_parallel[2]"/>
<testcase classname="tests.optim.test_contract_precision" name="test_grad_scaler[AdamW]">
<failure message="no"/></testcase>
<testcase classname="tests.optim.test_contract_precision" name="test_grad_scaler[SGD]"/>
<testcase classname="tests.optim.test_contract_precision" name="test_grad_scaler[ours-Adam]"/>
<testcase classname="tests.optim.test_checkpoint" name="test_distributed_checkpoints"/>
<testcase classname="tests.other" name="test_one"/>
</testsuite></testsuites>"""


@pytest.fixture
def docs(tmp_path):
    """A page with results of tests beside it."""
    (tmp_path / "results").mkdir()
    shutil.copy(KEPT, tmp_path / "results")
    shutil.copy(DOCS / "compatibility.md", tmp_path)
    (tmp_path / "results.xml").write_text(JUNIT)
    return tmp_path


def test_the_committed_page_is_what_the_committed_results_give():
    text = (DOCS / "compatibility.md").read_text("utf-8")
    assert filled(text, blocks(json.loads(KEPT.read_text("utf-8")))) == text


def test_every_row_has_tests_that_exist():
    kept = json.loads(KEPT.read_text("utf-8"))["rows"]
    assert len({row["name"] for row in kept}) == len(kept)
    for row in kept:
        for test in row["tests"]:
            module, _, pattern = test.partition(":")
            text = (ROOT / "tests" / f"{module.replace('.', '/')}.py").read_text()
            names = re.findall(r"^def (test_\w+)", text, re.MULTILINE)
            assert any(re.match(pattern, name) for name in names), test


def test_results_are_counted(docs):
    cases, none = read(docs / "results.xml"), {"cases": 0, "failed": 0}
    found = count(["optim.test_fuzz"], cases)
    assert found == {"cases": 4, "failed": 2, "skipped": {"slow | now": 1}, "AdamW": none}
    found = count(["scale_out.test_scale_out:test_data"], cases)
    assert found == {"cases": 1, "failed": 0, "skipped": {}, "AdamW": none}
    scaler = count(["optim.test_contract_precision:test_grad_scaler"], cases)
    assert (scaler["cases"], scaler["failed"]) == (1, 0)
    assert scaler["AdamW"] == {"cases": 1, "failed": 1}


@pytest.mark.parametrize("other", ["scale_out.test_scale_out:test_state", "optim.test_other"])
def test_a_row_is_counted_only_where_all_its_tests_are(other, docs):
    assert count(["optim.test_fuzz", other], read(docs / "results.xml")) is None


def test_what_is_not_run_again_stays(docs):
    before = rows((docs / "compatibility.md").read_text(), "scale-out")
    make([str(docs / "results.xml")], docs)
    text = (docs / "compatibility.md").read_text()
    after = rows(text, "scale-out")
    assert after["DDP"] == ["DDP", "`scale_out.test_scale_out`", "1", "0", "", ""]
    assert {**after, "DDP": before["DDP"]} == before
    assert r"| 4 | 2 | 1: slow \| now |  |" in text
    assert "| GradScaler | `optim.test_contract_precision` | 1 | 0 |  | 1, 1 failed |" in text
    kept = (docs / "results" / "compatibility.json").read_text()
    make([], docs)
    assert (docs / "results" / "compatibility.json").read_text() == kept


def test_trials_are_run_and_those_of_others_stay(docs, monkeypatch):
    monkeypatch.setattr(compatibility.trials, "outcomes", lambda makers: found)
    found = {"float64 parameters": {"ngopt": "no: pipe |"}, "another": {"ngopt": "yes"}}
    make(["trials"], docs)
    text = (docs / "compatibility.md").read_text()
    assert list(rows(text, "trials")) == ["float64 parameters", "another"]
    assert r"| float64 parameters | no: pipe \| | yes | no: RuntimeError: mat1" in text
    assert "| another | yes | not run | not run |" in text


def test_the_tests_of_all_rows_are_run(docs, monkeypatch):
    commands = []
    monkeypatch.setattr(compatibility.subprocess, "run", lambda c, **_: commands.append(c))
    monkeypatch.setattr(compatibility, "read", lambda path: [])
    make(["tests"], docs)
    (command,) = commands
    assert "tests/optim/test_fuzz.py" in command
    assert all((ROOT / word).is_file() for word in command if word.startswith("tests/"))


def test_whose_a_test_is():
    assert contestant("tests.optim.test_contract_step", "test_clipping[SGD]") == "others"
    assert contestant("tests.optim.test_changing_parameters", "test_devices[Adam]") == "ours"
    assert contestant("tests.optim.test_optimizer_info", "test_x[AdamW, default]") == "AdamW"


def test_the_page_names_no_place():
    assert str(ROOT) not in KEPT.read_text("utf-8")
