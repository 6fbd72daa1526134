import json

import pytest

from benchmarks.workloads.report import report
from tests.benchmarks.workloads.test_figures import runs
from tests.benchmarks.workloads.toy import toy


def test_report_is_written(tmp_path):
    for result in [
        *runs("recipe", [9.0, 7.0, 5.0, 4.0]),
        *runs("ngopt", [8.0, 3.0, 2.0, 1.0]),
        *runs("swap", [1.0], steps=10, at=[10], seconds=[1.0]),  # only tried
    ]:
        result.write(tmp_path / "toy" / f"{result.optimizer}-{result.seed}.json")
    workloads = [toy(steps=80), toy(name="without results")]
    found = report(workloads, tmp_path, tmp_path / "report")
    assert [row.optimizer for row in found] == ["recipe", "ngopt"]
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["rows"][1]["steps"] == pytest.approx(18 / 40)
    assert content["summaries"][1]["better"] == 1
    assert content["curves"]["toy"]["ngopt"]["mean"] == [8.0, 3.0, 2.0, 1.0]
    text = (tmp_path / "report.md").read_text()
    assert "| `ngopt` | 1.000 | 1 | 0.450 | 0.450 | 1.000 | 1.000 | better |" in text
    assert "`toy`, 80 steps, of which 40 were run, fresh. Lower is better." in text
    assert (tmp_path / "report.png").stat().st_size > 5_000
