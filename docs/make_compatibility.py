"""Write docs/compatibility.md from results of tests.

    python -m pytest tests/optim tests/trainers ... --junitxml=results.xml
    python docs/make_compatibility.py --junit results.xml --probes

With `--junit`, the rows whose tests are in those files are told anew; with `--probes`, the probes
are run again, with PyLO beside if its folder is given by `--pylo`. All of it is kept in
docs/results/compatibility.json, which the page is made of; what is not made anew stays as it is
there. Without arguments, the page is made anew, and comes out the same. `--run` runs the tests of
all rows first.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.compatibility_page import ROWS, Row, page  # noqa: E402
from docs.compatibility_probes import Make, outcomes  # noqa: E402
from ngopt import NeuralGraphOptimizer  # noqa: E402

DOCS = ROOT / "docs"
KEPT = Path("results") / "compatibility.json"
SEED = 0


def cases(files: Iterable[Path]) -> list[tuple[str, str, str]]:
    """Read JUnit files: module, name and outcome (`passed`, `failed`, or why skipped) of tests."""
    found = {}
    for file in files:
        for case in ElementTree.parse(file).iter("testcase"):
            outcome = "passed"
            for child in case:
                if child.tag == "skipped":
                    outcome = f"skipped: {child.get('message', '')}"
                elif child.tag in ("failure", "error"):
                    outcome = "failed"
            found[case.get("classname", ""), case.get("name", "")] = outcome
    return [(module, name, outcome) for (module, name), outcome in found.items()]


def told(row: Row, given: Iterable[tuple[str, str, str]]) -> dict[str, Any] | None:
    """Results of a row, ours and AdamW's in the same tests; None unless all its tests are there."""
    found: dict[str, list[str]] = {"ours": [], "AdamW": [], "others": []}
    for wanted, pattern in row.tests:
        mine = [case for case in given if case[0] == wanted and re.match(pattern, case[1])]
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


def makers(pylo: Path | None) -> dict[str, Make]:
    """The optimizers that are probed."""
    found: dict[str, Make] = {
        "ngopt": NeuralGraphOptimizer,
        "AdamW": lambda parameters: torch.optim.AdamW(parameters, weight_decay=0.0),
    }
    if pylo is not None:
        found["PyLO"] = _pylo(pylo)
    return found


def _pylo(folder: Path) -> Make:
    """Its `AdafacLO_naive` (small_fc_lopt), with random weights instead of downloaded ones."""
    sys.path.insert(0, str(folder))
    from pylo.models.Meta_MLP import MetaMLP  # type: ignore[import-not-found]
    from pylo.optim.AdafacLO_naive import AdafacLO_naive  # type: ignore[import-not-found]

    def made(cls: Any, key: str) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return cls(input_size=39, hidden_size=32, hidden_layers=1)

    MetaMLP.from_pretrained = classmethod(made)
    optimizer: Make = AdafacLO_naive
    return optimizer


def run_tests(folder: Path) -> Path:
    """Run the tests of all rows, and return what came of it."""
    modules = sorted({module for row in ROWS for module, _ in row.tests})
    files = [ROOT / f"{module.replace('.', '/')}.py" for module in modules]
    path = folder / "results.xml"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={path}"]
    # Tests that fail are told on the page.
    subprocess.run([*command, *(str(file) for file in files if file.is_file())], cwd=ROOT)
    return path


def merged(
    kept: Mapping[str, Any], files: Iterable[Path], probes: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """What was kept, with what is made anew in its place."""
    given = cases(files)
    tests = dict(kept.get("tests", {}))
    for row in ROWS:
        found = told(row, given)
        if found is not None:
            tests[row.key] = found
    content = {"tests": {row.key: tests[row.key] for row in ROWS if row.key in tests}}
    content["probes"] = {
        name: {**kept.get("probes", {}).get(name, {}), **found} for name, found in probes.items()
    } or dict(kept.get("probes", {}))
    content["torch"] = torch.__version__ if given or probes else kept.get("torch", "")
    return content


def make(files: Iterable[Path], probes: Mapping[str, Mapping[str, str]], docs: Path = DOCS) -> None:
    """Keep results, and write the page."""
    path = docs / KEPT
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    content = merged(kept, files, probes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (docs / "compatibility.md").write_text(page(content), encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--junit", nargs="*", type=Path, default=[], help="files of pytest")
    parser.add_argument("--run", action="store_true", help="run the tests of all rows first")
    parser.add_argument("--probes", action="store_true", help="run the probes")
    parser.add_argument("--pylo", type=Path, help="folder that has the package pylo")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = list(options.junit)
        if options.run:
            files.append(run_tests(Path(folder)))
        make(files, outcomes(makers(options.pylo)) if options.probes else {})


if __name__ == "__main__":
    main()
