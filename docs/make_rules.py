"""Write docs/rules.md: what each rule costs on models from small to large.

Run it as `python docs/make_rules.py` (half an hour). With names of rules, as in `python
docs/make_rules.py NGGNN NGT`, it measures these anew and keeps the rows of the others.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import ngopt  # noqa: E402
from benchmarks.memory import resident  # noqa: E402
from benchmarks.models import GPT2, ResNet, convnet, images, loss, perceptron, words  # noqa: E402
from docs.own_process import measured, run_alone  # noqa: E402
from meta_train.table import table_lines  # noqa: E402
from ngopt import rules  # noqa: E402
from ngopt.optim.update import Options, init_state, update  # noqa: E402

PAGE = ROOT / "docs" / "rules.md"
LIMIT_MIB = 10_000
LIMIT_SECONDS = 90
REPEATS = 5

RULES: dict[str, Callable[[], rules.Rule]] = {
    name: getattr(rules, name) for name in rules.__all__ if name not in ("Rule", "NFN")
}
"""By name, those of `ngopt.rules`, and some with other options."""

RULES |= {
    "MatrixGNN, graph off": lambda: rules.MatrixGNN(graph_context=False),
    "NFN, np": lambda: rules.NFN(variant="np"),
    "NFN, hnp": lambda: rules.NFN(variant="hnp"),
    "NGGNN, torch_geometric": lambda: rules.NGGNN(backend="pyg"),
}

MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "MLP 784-128-10": (perceptron, images(128, 784)),
    "convnet 1-16-32-32": (lambda: convnet(1, 16), images(128, 1, 28, 28)),
    "convnet 3-32-64-64": (lambda: convnet(3, 32), images(128, 3, 32, 32)),
    "ResNet-18": (ResNet, images(4, 3, 64, 64)),
    "GPT-2 small": (GPT2, words(50257, 1, 16)),
}

READING = f"""# What each rule costs

Written by `python docs/make_rules.py`: do not edit.

Every rule of `ngopt.rules` with default options, or with those named. Each cell was measured in a
process of its own: the median time of up to {REPEATS} calls, and the peak of memory above what
model, gradients and state took before.

* **theta**: number of weights of the rule, the same for every model.
* **state**: bytes that the optimizer keeps per parameter, on the MLP. AdamW keeps 8.
* **update**: one call of the pure `ngopt.optim.update.update`, which returns new parameters and a
  new state beside the old ones. The optimizer's `step()` works in place and needs less.
* **meta-gradient step**: one update, the loss of the updated model on the same batch, and its
  derivative by theta; batches of 128 for the first three models, of 4 for ResNet-18, and 16 words
  for GPT-2.
* **does not fit**: it took more than {LIMIT_MIB / 2**10:.1f} GiB (the number is the memory at
  which it was stopped), or it was not tried because of the memory it would take, estimated from the
  model before.
"""

STEP = """`NeuralGraphOptimizer(model).step()` with the default rule: {seconds:.0f} s. At its peak
the process holds {peak:,.0f} MiB more than before the model was built, gradients included. The
model takes {model:,.0f} MiB and the optimizer's state {state:,.0f} MiB: the peak is {times:.2f}
times both."""


def shown(result: dict[str, float] | None, estimate: float) -> str:
    """One cell in words; without a result, what it would take in MiB."""
    if result is None:
        return f"does not fit: about {estimate / 2**10:,.0f} GiB"
    if "stopped" not in result:
        spent = result["seconds"]
        time_taken = f"{1000 * spent:,.0f} ms" if spent < 10 else f"{spent:,.0f} s"
        return f"{time_taken}, {result['MiB']:,.0f} MiB"
    if result["MiB"] >= LIMIT_MIB:
        return f"does not fit: above {result['MiB'] / 2**10:.1f} GiB"
    return f"more than {result['stopped']} s"


def row(rule_name: str, what: str, results: dict[str, Any]) -> list[str]:
    """Measure one rule on all models, from the smallest up."""
    cells, per_weight = [rule_name], 0.0
    learns = next(RULES[rule_name]().parameters(), None) is not None
    for model_name, (build, _) in MODELS.items():
        if what == "meta" and not learns:
            cells.append("no theta")
            continue
        with torch.device("meta"):
            size = sum(p.numel() for p in build().parameters())
        estimate = per_weight * size
        fits = estimate < LIMIT_MIB
        found = run_alone(__file__, "--cell", rule_name, model_name, what) if fits else {}
        result = found.get(what)
        if "size" in found:
            results.setdefault(rule_name, found)
            # What small models take is mostly what any model takes.
            per_weight = found[what]["MiB"] / size if size > 50_000 else 0.0
        cells.append(shown(result, estimate))
        print(f"{what}: {rule_name} on {model_name}: {cells[-1]}", file=sys.stderr)
    return cells


def kept_rows() -> dict[str, dict[str, list[str]]]:
    """Rows of each table of the page as it is, by title and by name of the rule."""
    tables: dict[str, dict[str, list[str]]] = {}
    for section in PAGE.read_text().split("\n## ")[1:] if PAGE.exists() else []:
        title, *lines = section.splitlines()
        rows = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line[:2] == "| "]
        tables[title] = {cells[0]: cells for cells in rows}
    return tables


def write(names: list[str]) -> None:
    """Measure the named rules and write the page, with the other rules' rows as they were."""
    results: dict[str, Any] = {}
    tables, costs = kept_rows(), {"update": "One update", "meta": "One meta-gradient step"}
    for what, title in costs.items():
        for name in names:
            tables.setdefault(title, {})[name] = row(name, what, results)
    for name in names:
        theta, state = results[name]["theta"], results[name]["state"]
        tables.setdefault("Size", {})[name] = [name, f"{theta:,}", f"{state:.1f}"]
    text = f"{READING}\nMeasured with one CPU thread, torch {torch.__version__}.\n"
    heads = {"Size": ["rule", "theta", "state, bytes"]}
    for title, head in (heads | {title: ["rule", *MODELS] for title in costs.values()}).items():
        rows = [tables[title][name] for name in RULES if name in tables[title]]
        text += f"\n## {title}\n\n" + "\n".join(table_lines(head, rows)) + "\n"
    found = run_alone(__file__, "--step")
    text += f"\n## A step on GPT-2 small\n\n{STEP.format(**found)}\n"
    PAGE.write_text(text)


def stop_beyond_limits(what: str) -> None:
    """End this process, and say so, once it takes more memory or time than it may."""
    started = time.perf_counter()

    def check() -> None:
        while True:
            spent, memory = time.perf_counter() - started, resident()
            if memory > LIMIT_MIB or spent > LIMIT_SECONDS:
                print(json.dumps({what: {"stopped": round(spent), "MiB": round(memory)}}))
                sys.stdout.flush()
                os._exit(0)
            time.sleep(0.02)

    threading.Thread(target=check, daemon=True).start()


def cell(rule_name: str, model_name: str, what: str) -> None:
    """Print, as JSON, what one rule costs on one model; run in a process of its own."""
    torch.manual_seed(0)
    build, data = MODELS[model_name]
    model, x, rule = build(), data(), RULES[rule_name]()
    graph = ngopt.trace(model, x)

    def loss_of(weights: dict[str, Tensor]) -> Tensor:
        return loss(torch.func.functional_call(model, weights, (x,)))

    leaves = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}
    slopes = torch.autograd.grad(loss_of(leaves), list(leaves.values()))
    grads = dict(zip(leaves, slopes, strict=True))
    weights = {name: w.detach() for name, w in leaves.items()}
    state = {  # copied, because zeros take no memory before they are written
        name: {key: tensor.clone() for key, tensor in tensors.items()}
        for name, tensors in init_state(weights, graph, rule).items()
    }
    options = dict.fromkeys(grads, Options())
    size = sum(w.numel() for w in weights.values())
    kept = sum(t.numel() * t.element_size() for s in state.values() for t in s.values())
    # A small model first, for what is imported or allocated only once.
    tiny = {"w": torch.ones(3, 2)}
    small = ngopt.NeuralGraph.per_tensor({"w": (3, 2)})
    update(tiny, tiny, init_state(tiny, small, rule), small, rule, {"w": Options()})
    stop_beyond_limits(what)
    one_update = partial(update, weights, grads, state, graph, rule, options)

    def one_meta_step() -> None:
        loss_after = loss_of(one_update().params)
        torch.autograd.grad(loss_after, list(rule.parameters()), allow_unused=True)

    run = torch.no_grad()(one_update) if what == "update" else one_meta_step
    result = measured(run, REPEATS)
    theta = sum(p.numel() for p in rule.parameters())
    print(json.dumps({what: result, "theta": theta, "state": kept / size, "size": size}))


def step() -> None:
    """Print, as JSON, what the optimizer's step takes on GPT-2 small, with the model itself."""
    text, made = MODELS["GPT-2 small"][1](), []
    GPT2()  # for what is imported or allocated only once

    def train() -> None:
        model = GPT2()
        optimizer = ngopt.NeuralGraphOptimizer(model)
        model(text).logsumexp(1).mean().backward()
        optimizer.step()
        started = time.perf_counter()
        optimizer.step()
        made.extend((time.perf_counter() - started, model, optimizer))

    peak = measured(train)["MiB"]
    spent, model, optimizer = made
    state = [tensor for tensors in optimizer.state.values() for tensor in tensors.values()]
    sizes = [
        sum(t.numel() * t.element_size() for t in tensors) / 2**20
        for tensors in (model.parameters(), state)
    ]
    found = {"seconds": spent, "model": sizes[0], "state": sizes[1]}
    print(json.dumps({**found, "peak": peak, "times": peak / sum(sizes)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cell"]:
        cell(*sys.argv[2:])
    elif sys.argv[1:] == ["--step"]:
        step()
    else:
        write([name for name in RULES if name in sys.argv[1:]] or list(RULES))
