"""docs/compatibility.md: results of tests, and of trials of several optimizers.

docs/results/compatibility.json keeps them, and says which tests make which row of which block; what
is not made anew stays as it is.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

import torch

from docs.make import trials
from docs.make.page import DOCS, ROOT, as_text, fill, text_table

Json: TypeAlias = dict[str, Any]
Case: TypeAlias = tuple[str, str, str]
"""Module, name and outcome (`passed`, `failed`, or why skipped) of a test."""


def make(given: Sequence[str], docs: Path = DOCS) -> None:
    """Take in what is given, and fill the page from what is kept then.

    Args:
        given: `tests` to run the tests of all rows, `trials` to run the trials; files of
            `pytest --junitxml`; a folder that has the package `pylo`, for the trials.
        docs: folder of the page.
    """
    path = docs / "results" / "compatibility.json"
    content = json.loads(path.read_text("utf-8"))
    paths = [Path(word) for word in given if word not in ("tests", "trials")]
    cases = [case for file in paths if file.is_file() for case in read(file)]
    if "tests" in given:
        cases += run_tests(content["rows"])
    for row in content["rows"]:
        row["results"] = count(row["tests"], cases) or row["results"]
    if "trials" in given:
        pylo = next((folder for folder in paths if folder.is_dir()), None)
        known = {row["trial"]: row for row in content["trials"]}
        found = trials.outcomes(trials.makers(pylo)).items()
        content["trials"] = [{"trial": name, **known.get(name, {}), **who} for name, who in found]
    if given:
        content["torch"] = torch.__version__
    path.write_text(as_text(content), "utf-8")
    fill(docs / "compatibility.md", blocks(content))


def run_tests(rows: Sequence[Json]) -> list[Case]:
    """Run the tests of all rows; those that fail are told on the page."""
    modules = sorted({test.partition(":")[0] for row in rows for test in row["tests"]})
    files = [f"tests/{module.replace('.', '/')}.py" for module in modules]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={path}", *files]
        subprocess.run(command, cwd=ROOT, check=False)
        return read(path)


def read(file: Path) -> list[Case]:
    """Read a JUnit file."""
    found = []
    for case in ElementTree.parse(file).iter("testcase"):
        outcome = "passed"
        for child in case:
            if child.tag == "skipped":
                outcome = f"skipped: {child.get('message', '')}"
            elif child.tag in ("failure", "error"):
                outcome = "failed"
        found.append((case.get("classname", ""), case.get("name", ""), outcome))
    return found


def count(tests: Sequence[str], cases: Sequence[Case]) -> Json | None:
    """Results of tests, ours and AdamW's; None unless there are some of each of them.

    Args:
        tests: modules in `tests`; after a colon, what the names of tests begin with.
        cases: of all tests that were run.
    """
    found: dict[str, list[str]] = {"ours": [], "AdamW": [], "others": []}
    for test in tests:
        wanted, _, pattern = test.partition(":")
        mine = [c for c in cases if c[0] == f"tests.{wanted}" and re.match(pattern, c[1])]
        if not mine:
            return None
        for module, name, outcome in mine:
            found[contestant(module, name)].append(outcome)
    skipped = Counter(o.removeprefix("skipped: ") for o in found["ours"] if o.startswith("skipped"))
    return {
        "cases": len(found["ours"]),
        "failed": found["ours"].count("failed"),
        "skipped": dict(sorted(skipped.items())),
        "AdamW": {"cases": len(found["AdamW"]), "failed": found["AdamW"].count("failed")},
    }


def contestant(module: str, name: str) -> str:
    """Whose test it is: `ours`, `AdamW`, or that of `others` of torch.

    >>> contestant("tests.optim.test_contract_step", "test_closure[keyword-AdamW]")
    'AdamW'
    >>> contestant("tests.optim.test_contract_step", "test_closure[keyword-ours-Adam]")
    'ours'
    """
    if "ours" in name or "NeuralGraphOptimizer" in name:
        return "ours"
    if "AdamW" in name:
        return "AdamW"
    shared = module.startswith("tests.optim.test_contract")
    return "others" if shared and re.search(r"[\[-](Adam|SGD)[\]-]", name) else "ours"


def blocks(content: Json) -> dict[str, list[str]]:
    """All blocks of the page."""
    head, made = ["", "tests", "cases", "failed", "skipped", "AdamW"], {}
    for block, rows in groupby(content["rows"], lambda row: row["block"]):
        made[block] = text_table(head, [_cells(row) for row in rows])
    who = list(dict.fromkeys(key for row in content["trials"] for key in row if key != "trial"))
    cells = [[row["trial"], *(row.get(n, "not run") for n in who)] for row in content["trials"]]
    made["trials"] = text_table(["", *who], cells)
    return made | {"torch": [f"The results are those on the CPU with torch {content['torch']}."]}


def _cells(row: Json) -> list[str]:
    modules = dict.fromkeys(test.partition(":")[0] for test in row["tests"])
    what, found = [row["name"], ", ".join(f"`{module}`" for module in modules)], row["results"]
    if found is None:
        return [*what, "not run", "", "", ""]
    skipped = "; ".join(f"{count}: {reason}" for reason, count in found["skipped"].items())
    other = found["AdamW"]
    beside = f"{other['cases']}, {other['failed']} failed" if other["cases"] else ""
    counts = str(found["cases"]), str(found["failed"])
    return [*what, *counts, skipped.replace("\n", " "), beside]
