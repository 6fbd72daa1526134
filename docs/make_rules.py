"""Write docs/rules.md: what each rule costs on models from small to large.

Run it as `python docs/make_rules.py` (a quarter of an hour on two cores). With names of rules, as
in `python docs/make_rules.py NGGNN NGT`, it measures these anew and keeps the rows of the others.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.rules_cells import LIMIT_MIB, MODELS, REPEATS, RULES  # noqa: E402

CELLS = ROOT / "docs" / "rules_cells.py"
PAGE = ROOT / "docs" / "rules.md"
AT_A_TIME = 2


def run(rule_name: str, model_name: str, what: str) -> dict[str, Any]:
    """Measure one cell in a new process."""
    command = [sys.executable, str(CELLS), rule_name, model_name, what]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{rule_name} on {model_name}:\n{done.stdout}\n{done.stderr}")
    result: dict[str, Any] = json.loads(lines[0])
    return result


def shown(result: dict[str, float] | None, estimate: float) -> str:
    """One cell in words."""
    if result is None:
        return f"does not fit: about {estimate / 2**10:,.0f} GiB"
    if "stopped" not in result:
        return f"{seconds(result['seconds'])}, {result['MiB']:,.0f} MiB"
    if result["MiB"] >= LIMIT_MIB:
        return f"does not fit: above {result['MiB'] / 2**10:.1f} GiB"
    return f"more than {result['stopped']} s"


def seconds(value: float) -> str:
    """A time in its natural unit."""
    return f"{1000 * value:,.0f} ms" if value < 10 else f"{value:,.0f} s"


def sizes() -> dict[str, int]:
    """Number of weights of each model."""
    with torch.device("meta"):
        models = {name: build() for name, (build, _) in MODELS.items()}
    return {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}


def row(rule_name: str, what: str, results: dict[str, Any], weights: dict[str, int]) -> str:
    """Measure one rule on all models, from the smallest up."""
    cells, per_weight = [rule_name], 0.0
    learns = next(RULES[rule_name]().parameters(), None) is not None
    for model_name, size in weights.items():
        if what == "meta" and not learns:
            cells.append("no theta")
            continue
        estimate = per_weight * size
        fits = estimate < LIMIT_MIB
        found = run(rule_name, model_name, what) if fits else None
        result = found[what] if found else None
        if found and "size" in found:
            results[rule_name] = found
            # What small models take is mostly what any model takes.
            per_weight = result["MiB"] / size if size > 50_000 else 0.0
        cells.append(shown(result, estimate))
        print(f"{what}: {rule_name} on {model_name}: {cells[-1]}", file=sys.stderr)
    return f"| {' | '.join(cells)} |"


def table(head: list[str], lines: list[str]) -> str:
    """A table in Markdown."""
    return "\n".join([f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *lines])


READING = """# The rules

Written by `python docs/make_rules.py`: do not edit.

Every rule of `ngopt.rules` as its constructor builds it without arguments (or with those named).
Each cell was measured in a process of its own: the median time of up to {repeats} calls, and the
peak of memory above what model, gradients and state took before.

* **theta**: number of weights of the rule, the same for every model.
* **state**: bytes that the optimizer keeps per parameter, on the MLP. AdamW keeps 8.
* **update**: one call of the pure `ngopt.optim.update.update`, which returns new parameters and a
  new state beside the old ones. The optimizer's `step()` puts them in place one by one and needs
  less.
* **meta-gradient step**: one update, the loss of the updated model on the same batch, and its
  derivative by theta; batches of 128 for the first three models, of 4 for ResNet-18, and 16 words
  for GPT-2.
* **does not fit**: it took more than {limit:.1f} GiB (then the memory at which it was stopped), or
  it was not tried because it would take the number given, by what it takes per weight on the model
  before.

Measured with {system}.
"""


def step_in_words() -> str:
    """What the optimizer's step takes, measured in a new process."""
    command = [sys.executable, str(CELLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    together = found["model"] + found["state"]
    lines = [
        f"`NeuralGraphOptimizer(model).step()` with the default rule: {found['seconds']:.0f} s.",
        f"At its peak the process holds {found['peak']:,.0f} MiB more than before the model was",
        f"built, gradients included. The model takes {found['model']:,.0f} MiB and the optimizer's",
        f"state {found['state']:,.0f} MiB: the peak is {found['peak'] / together:.2f} times both.",
    ]
    return "\n".join(lines)


def kept_rows() -> dict[str, dict[str, str]]:
    """Rows of each table of the page as it is, by title and by name of the rule."""
    tables: dict[str, dict[str, str]] = {}
    if PAGE.exists():
        for section in PAGE.read_text().split("\n## ")[1:]:
            title, *lines = section.splitlines()
            tables[title] = {x.split("|")[1].strip(): x for x in lines if x.startswith("| ")}
    return tables


def write(names: list[str]) -> None:
    """Measure the named rules and write the page, with the other rules' rows as they were."""
    results: dict[str, Any] = {}
    tables, weights = kept_rows(), sizes()
    for what, title in (("update", "One update"), ("meta", "One meta-gradient step")):
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            rows = pool.map(partial(row, what=what, results=results, weights=weights), names)
            tables.setdefault(title, {}).update(zip(names, rows, strict=True))
    for name in names:
        theta, state = results[name]["theta"], results[name]["state"]
        tables.setdefault("Size", {})[name] = f"| {name} | {theta:,} | {state:.1f} |"
    system = f"one CPU thread, {AT_A_TIME} cells at a time, torch {torch.__version__}"
    text = READING.format(repeats=REPEATS, limit=LIMIT_MIB / 2**10, system=system)
    heads = {
        "Size": ["rule", "theta", "state, bytes"],
        "One update": ["rule", *MODELS],
        "One meta-gradient step": ["rule", *MODELS],
    }
    pages = {
        title: table(head, [tables[title][name] for name in RULES if name in tables[title]])
        for title, head in heads.items()
    }
    pages["A step on GPT-2 small"] = step_in_words()
    sections = [f"## {title}\n\n{content}\n" for title, content in pages.items()]
    PAGE.write_text("\n".join([text, *sections]))


def main() -> None:
    """Write the page."""
    write([name for name in RULES if name in sys.argv[1:]] or list(RULES))


if __name__ == "__main__":
    main()
