"""The page of compatibility, as text."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from docs.compatibility_rows import ROWS

HEAD = """# Compatibility

What ngopt is tried with, and what came of it. This page is made of results of tests by
`python docs/make_compatibility.py`; it tells what was run, on the CPU, with torch {torch}.
A case is one test of ngopt with one set of parameters; in the last column are those of the same
tests with `torch.optim.AdamW`, where they are made for it as well. Rows without tests are not run.
"""

PROBES = """
## The same trials for others

Each trial is a small program, run alike for `NeuralGraphOptimizer(parameters)`, for
`torch.optim.AdamW` with its defaults and no weight decay, and for PyLO's `AdafacLO_naive`
(small_fc_lopt) as it was in its repository at commit 1f959f00 (its network: d834b6ac), without
its comments and with random weights in place of those it downloads. They are in
[compatibility_probes.py](compatibility_probes.py).
"""


def page(content: Mapping[str, Any]) -> str:
    """Write the page of what is kept in `compatibility.json`."""
    lines = [HEAD.format(torch=content.get("torch", ""))]
    for section, rows in groupby(ROWS, lambda row: row.section):
        lines += [
            f"## {section}",
            "",
            "| | tests | cases | failed | skipped | AdamW |",
            "|---|---|---|---|---|---|",
        ]
        for row in rows:
            modules = dict.fromkeys(module for module, _ in row.tests)
            shown = ", ".join(f"`{module.removeprefix('tests.')}`" for module in modules)
            lines.append(f"| {row.name} | {shown} | {_figures(content['tests'].get(row.key))} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n" + _probes(content["probes"])


def _figures(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not run | | | "
    skipped = [f"{count}: {_cell(reason)}" for reason, count in found["skipped"].items()]
    other = found["AdamW"]
    beside = f"{other['cases']}, {other['failed']} failed" if other["cases"] else ""
    return f"{found['cases']} | {found['failed']} | {'; '.join(skipped)} | {beside}"


def _probes(found: Mapping[str, Mapping[str, str]]) -> str:
    if not found:
        return ""
    names = list(dict.fromkeys(name for outcomes in found.values() for name in outcomes))
    lines = [PROBES, f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for trial, outcomes in found.items():
        cells = [_cell(outcomes.get(name, "not run")) for name in names]
        lines.append(f"| {trial} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
