"""Write docs/rules.md: what each rule costs on models from small to large.

Run it as `python docs/make_rules.py` (a quarter of an hour on two cores). With names of rules, as
in `python docs/make_rules.py NGGNN NGT`, it measures these anew and keeps the rows of the others.
"""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import ngopt  # noqa: E402
from benchmarks.memory import forget_peak, peak_resident, resident  # noqa: E402
from benchmarks.models import (  # noqa: E402
    GPT2,
    ResNet,
    convnet,
    images,
    loss,
    perceptron,
    words,
)
from ngopt import rules  # noqa: E402
from ngopt.optim.update import Options, init_state, update  # noqa: E402

PAGE = ROOT / "docs" / "rules.md"
LIMIT_MIB = 10_000
LIMIT_SECONDS = 90
REPEATS = 5
AT_A_TIME = 2

RULES: dict[str, Callable[[], rules.Rule]] = {
    "Adam": rules.Adam,
    "SGDM": rules.SGDM,
    "Muon": rules.Muon,
    "MatrixGNN": rules.MatrixGNN,
    "MatrixGNN, graph off": lambda: rules.MatrixGNN(graph_context=False),
    "SmallFC": rules.SmallFC,
    "Celo2": rules.Celo2,
    "LSTM": rules.LSTM,
    "FF": rules.FF,
    "AcrossLSTM": rules.AcrossLSTM,
    "StatNN": rules.StatNN,
    "DeepSets": rules.DeepSets,
    "NFN, np": lambda: rules.NFN(variant="np"),
    "NFN, hnp": lambda: rules.NFN(variant="hnp"),
    "DWS": rules.DWS,
    "NGGNN": rules.NGGNN,
    "NGGNN, torch_geometric": lambda: rules.NGGNN(backend="pyg"),
    "NGT": rules.NGT,
}


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "MLP 784-128-10": (perceptron, images(128, 784)),
    "convnet 1-16-32-32": (lambda: convnet(1, 16), images(128, 1, 28, 28)),
    "convnet 3-32-64-64": (lambda: convnet(3, 32), images(128, 3, 32, 32)),
    "ResNet-18": (ResNet, images(4, 3, 64, 64)),
    "GPT-2 small": (GPT2, words(50257, 1, 16)),
}


def loss_of(model: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Cross-entropy on a batch with arbitrary labels."""
    return loss(torch.func.functional_call(model, weights, (x,)))


def measured(run: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of a call, and its peak of memory (MiB) above what was there before."""
    started, times = time.perf_counter(), []
    peak = 0.0
    while not times or (len(times) < REPEATS and time.perf_counter() - started < 6):
        before, start = forget_peak(), time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        peak = max(peak, peak_resident() - before)
    return {"seconds": statistics.median(times), "MiB": peak}


def watch(what: str) -> None:
    """End this process, and say so, once it takes more memory or time than it may."""
    started = time.perf_counter()

    def look() -> None:
        while True:
            spent, memory = time.perf_counter() - started, resident()
            if memory > LIMIT_MIB or spent > LIMIT_SECONDS:
                print(json.dumps({what: {"stopped": round(spent), "MiB": round(memory)}}))
                sys.stdout.flush()
                os._exit(0)
            time.sleep(0.02)

    threading.Thread(target=look, daemon=True).start()


def warm_up(rule: rules.Rule) -> None:
    """Update a small model, for what is imported or allocated only once."""
    tiny = {"w": torch.ones(3, 2)}
    graph = ngopt.NeuralGraph.per_tensor({"w": (3, 2)})
    update(tiny, tiny, init_state(tiny, graph, rule), graph, rule, {"w": Options()})


def cell(rule_name: str, model_name: str, what: str) -> None:
    """Print, as JSON, what one rule costs on one model; run in a process of its own."""
    torch.manual_seed(0)
    build, data = MODELS[model_name]
    model, x, rule = build(), data(), RULES[rule_name]()
    graph = ngopt.trace(model, x)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    leaves = {name: w.requires_grad_() for name, w in weights.items()}
    slopes = torch.autograd.grad(loss_of(model, leaves, x), list(leaves.values()))
    grads = dict(zip(leaves, slopes, strict=True))
    weights = {name: w.detach() for name, w in weights.items()}
    with torch.no_grad():
        state = init_state(weights, graph, rule)
        for tensors in state.values():
            for key in tensors:
                tensors[key] = tensors[key].clone()  # zeros take no memory before they are written
    options = dict.fromkeys(grads, Options())
    size = sum(w.numel() for w in weights.values())
    kept = sum(t.numel() * t.element_size() for s in state.values() for t in s.values())
    warm_up(rule)
    watch(what)

    def one_update() -> None:
        with torch.no_grad():
            update(weights, grads, state, graph, rule, options)

    def one_meta_step() -> None:
        new = update(weights, grads, state, graph, rule, options).params
        torch.autograd.grad(loss_of(model, new, x), list(rule.parameters()), allow_unused=True)

    result = measured(one_update if what == "update" else one_meta_step)
    theta = sum(p.numel() for p in rule.parameters())
    print(json.dumps({what: result, "theta": theta, "state": kept / size, "size": size}))


def run(rule_name: str, model_name: str, what: str) -> dict[str, Any]:
    """Measure one cell in a new process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--cell", rule_name, model_name, what]
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


def step() -> None:
    """Print, as JSON, what the optimizer's step takes on GPT-2 small, with the model itself."""
    text = MODELS["GPT-2 small"][1]()
    GPT2()  # for what is imported or allocated only once
    before = forget_peak()
    model = GPT2()
    optimizer = ngopt.NeuralGraphOptimizer(model)
    model(text).logsumexp(1).mean().backward()
    optimizer.step()
    started = time.perf_counter()
    optimizer.step()
    spent = time.perf_counter() - started
    peak = peak_resident() - before
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    state = sum(t.numel() * t.element_size() for s in optimizer.state.values() for t in s.values())
    megabytes = {"model": weights / 2**20, "state": state / 2**20, "peak": peak}
    print(json.dumps({"seconds": spent, **megabytes}))


def step_in_words() -> str:
    """What the optimizer's step takes, measured in a new process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--step"]
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
    """Write the page, or measure one cell of it."""
    given = sys.argv[1:]
    if given[:1] == ["--cell"]:
        cell(*given[1:])
    elif given == ["--step"]:
        step()
    else:
        write([name for name in RULES if name in given] or list(RULES))


if __name__ == "__main__":
    main()
