import json
import re

import pytest
import torch

from docs.compatibility_page import ROWS, page
from docs.compatibility_probes import PROBES, outcome
from docs.make_compatibility import DOCS, KEPT, ROOT, cases, contestant, make, makers, told
from ngopt.backends.dispatch import without_loops

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


@pytest.fixture(autouse=True)
def _unrecorded():
    # Trials are of few steps: to record them would take longer than to make them.
    with without_loops():
        yield


@pytest.fixture
def junit(tmp_path):
    path = tmp_path / "results.xml"
    path.write_text(JUNIT)
    return path


def row(name):
    return next(row for row in ROWS if row.name == name)


def test_the_committed_page_is_what_the_committed_results_give():
    content = json.loads((DOCS / KEPT).read_text(encoding="utf-8"))
    assert (DOCS / "compatibility.md").read_text(encoding="utf-8") == page(content)


def test_every_row_has_tests_that_exist():
    assert len({row.key for row in ROWS}) == len(ROWS)
    for each in ROWS:
        for module, pattern in each.tests:
            file = ROOT / f"{module.replace('.', '/')}.py"
            if each.name != "CUDA graphs":  # which nothing tests yet
                names = re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
                assert any(re.match(pattern, name) for name in names), (module, pattern)


def test_results_are_counted(junit):
    given = cases([junit])
    found = told(row("random sequences of calls"), given)
    none = {"cases": 0, "failed": 0}
    assert found == {"cases": 4, "failed": 2, "skipped": {"slow | now": 1}, "AdamW": none}
    assert told(row("DDP"), given) == {"cases": 1, "failed": 0, "skipped": {}, "AdamW": none}
    scaler = told(row("GradScaler"), given)
    assert (scaler["cases"], scaler["failed"]) == (1, 0)
    assert scaler["AdamW"] == {"cases": 1, "failed": 1}


@pytest.mark.parametrize("name", ["FSDP2", "torch.distributed.checkpoint"])
def test_a_row_is_told_only_where_all_its_tests_are(name, junit):
    assert told(row(name), cases([junit])) is None


def test_what_is_not_run_again_stays(junit, tmp_path):
    make([junit], {"trial": {"ngopt": "yes", "PyLO": "no: why"}}, tmp_path)
    first = json.loads((tmp_path / KEPT).read_text())
    make([], {"trial": {"ngopt": "no: pipe |"}}, tmp_path)
    second = json.loads((tmp_path / KEPT).read_text())
    assert second["tests"] == first["tests"]
    assert second["probes"] == {"trial": {"ngopt": "no: pipe |", "PyLO": "no: why"}}
    make([], {}, tmp_path)
    assert json.loads((tmp_path / KEPT).read_text()) == second
    text = (tmp_path / "compatibility.md").read_text()
    assert "| DDP | `scale_out.test_scale_out` | 1 | 0 |  |  |" in text
    assert "| FSDP2 | `scale_out.test_scale_out` | not run |  |  |  |" in text
    assert r"| 4 | 2 | 1: slow \| now |  |" in text
    assert "| GradScaler | `optim.test_contract_precision` | 1 | 0 |  | 1, 1 failed |" in text
    assert r"| trial | no: pipe \| | no: why |" in text


@pytest.mark.parametrize("name", PROBES)
def test_every_trial_is_passed_by_ours_and_all_but_one_by_adamw(name):
    contestants = makers(None)
    assert outcome(PROBES[name], contestants["ngopt"]) == "yes"
    if name != "a NaN gradient spoils no later step":
        assert outcome(PROBES[name], contestants["AdamW"]) == "yes"


class Idle(torch.optim.Optimizer):
    """Does nothing, and knows of no closure."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 1.0})

    def step(self):
        pass


def test_whose_a_test_is():
    assert contestant("tests.optim.test_contract_step", "test_clipping[SGD]") == "others"
    assert contestant("tests.optim.test_changing_parameters", "test_devices[Adam]") == "ours"
    assert contestant("tests.optim.test_optimizer_info", "test_x[AdamW, default]") == "AdamW"


def test_trials_can_be_failed():
    found = {name: outcome(run, Idle) for name, run in PROBES.items()}
    assert found["bfloat16 parameters"] == "no: some parameters do not move"
    assert found["a closure is called, and its loss returned"].startswith("no: TypeError: ")
    assert found["add_param_group after some steps"] == "no: they do not move"


def test_the_page_names_no_place():
    assert str(ROOT) not in (DOCS / KEPT).read_text(encoding="utf-8")
