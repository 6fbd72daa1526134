"""What one rule costs on one model, measured in a process of its own for docs/make_rules.py.

`python docs/rules_cells.py RULE MODEL update` or `... meta` prints it as JSON; without arguments,
what the optimizer's step takes on GPT-2 small.
"""

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
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

LIMIT_MIB = 10_000
LIMIT_SECONDS = 90
REPEATS = 5

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


if __name__ == "__main__":
    cell(*sys.argv[1:]) if sys.argv[1:] else step()
