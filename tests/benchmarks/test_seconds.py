"""Speed-up in seconds, from an evaluation and from turns with AdamW."""

import json
from dataclasses import asdict

import pytest

from benchmarks import contestant, seconds
from benchmarks.seconds import Options, run
from meta_train.comparison import Row
from meta_train.curves import Budget
from meta_train.suites import SuiteTask

SMALL = SuiteTask("convnet:data=digits,size=8,width=4,depth=2", 20)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(contestant, "AT_LEAST", 0.0)
    monkeypatch.setattr(seconds, "SUITES", {"small": (SMALL,), "other": (SMALL,)})


def row(name, speed_up):
    figures = dict.fromkeys(
        ("train", "error", "relative_train", "held_out", "test", "relative_test"), 1.0
    )
    counts = dict.fromkeys(("stalled", "diverged"), 0)
    flags = dict.fromkeys(("at_edge", "worse"), False)
    return Row(
        suite="small",
        task=SMALL.task().name,
        budget=Budget(20, 3),
        contestant=name,
        setting="",
        accuracy=None,
        steps=10,
        speed_up=speed_up,
        **figures,
        **counts,
        **flags,
    )


def test_speed_up_in_steps_is_divided_by_the_cost_of_a_training_step(tmp_path):
    rows = [row("adamw", 1.0), row("no_graph", 3.0), row("celo:weights=a", 2.0)]
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"rows": [asdict(r) for r in rows]}))
    (speed,) = run(Options(path, rounds=1, out=tmp_path / "seconds"))
    assert (speed.suite, speed.task, speed.contestant) == ("small", rows[0].task, "no_graph")
    assert speed.cost > 1
    assert speed.seconds == pytest.approx(3.0 / speed.cost)
    content = json.loads((tmp_path / "seconds.json").read_text())
    assert content["found"] == [asdict(speed)]
    text = (tmp_path / "seconds.md").read_text()
    assert f"| small | `no_graph` | 3.00 | {speed.cost:.2f} | {speed.seconds:.2f} |" in text
