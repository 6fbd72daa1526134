"""docs/rules.md: what each rule costs on models from small to large."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import ngopt
from benchmarks.models import GPT2, ResNet, convnet, images, loss, perceptron, words
from docs.make.measure import alone, measured
from docs.make.page import DOCS, fill, rows
from meta_train.table import table_lines
from ngopt import rules
from ngopt.optim.update import Options, init_state, update

LIMIT_MIB = 10_000
LIMIT_SECONDS = 120
REPEATS = 5
COSTS = ("update", "meta-gradient")

RULES: dict[str, Callable[[], rules.Rule]] = {
    name: getattr(rules, name) for name in rules.__all__ if name not in ("Rule", "NFN")
} | {
    "MatrixGNN, graph off": lambda: rules.MatrixGNN(graph_context=False),
    "NFN, np": lambda: rules.NFN(variant="np"),
    "NFN, hnp": lambda: rules.NFN(variant="hnp"),
    "NGGNN, torch_geometric": lambda: rules.NGGNN(backend="pyg"),
}
"""By name, those of `ngopt.rules`, and some with other options."""

MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "MLP 784-128-10": (perceptron, images(128, 784)),
    "convnet 1-16-32-32": (lambda: convnet(1, 16), images(128, 1, 28, 28)),
    "convnet 3-32-64-64": (lambda: convnet(3, 32), images(128, 3, 32, 32)),
    "ResNet-18": (ResNet, images(4, 3, 64, 64)),
    "GPT-2 small": (GPT2, words(50257, 1, 16)),
}


def make(given: Sequence[str], page: Path = DOCS / "rules.md") -> None:
    """Measure the given rules, or all, and keep the rows of the others."""
    names = list(given) or list(RULES)
    unknown = [name for name in names if name not in RULES]
    if unknown:
        raise SystemExit(f"there is no rule `{unknown[0]}`.\n  Use some of: {', '.join(RULES)}.")
    measures = {cost: partial(row, cost=cost) for cost in COSTS}
    heads = {"size": ["rule", "theta", "state, bytes"]} | {
        cost: ["rule", *MODELS] for cost in COSTS
    }
    text = page.read_text("utf-8")
    blocks = {"measured": [f"Measured with one CPU thread, torch {torch.__version__}."]}
    for block, measure in {"size": size, **measures}.items():
        known = rows(text, block) | {name: measure(name) for name in names}
        blocks[block] = table_lines(heads[block], [known[name] for name in RULES if name in known])
    fill(page, blocks)


def size(name: str) -> list[str]:
    """Row of the table of sizes: weights of the rule, and its state in bytes per parameter."""
    rule, (build, data) = RULES[name](), next(iter(MODELS.values()))
    model = build()
    weights = dict(model.named_parameters())
    state = init_state(weights, ngopt.trace(model, data()), rule)
    kept = sum(t.numel() * t.element_size() for s in state.values() for t in s.values())
    theta = sum(parameter.numel() for parameter in rule.parameters())
    return [name, f"{theta:,}", f"{kept / sum(w.numel() for w in weights.values()):.1f}"]


def row(name: str, cost: str) -> list[str]:
    """What one rule costs on all models, from the smallest up."""
    cells, per_weight = [name], 0.0
    learns = next(RULES[name]().parameters(), None) is not None
    for model, (build, _) in MODELS.items():
        with torch.device("meta"):
            weights = sum(p.numel() for p in build().parameters())
        estimate = per_weight * weights
        if cost == "meta-gradient" and not learns:
            cells.append("no theta")
        elif estimate >= LIMIT_MIB:
            cells.append(f"does not fit: about {estimate / 2**10:,.0f} GiB")
        else:
            found = alone(cell, name, model, cost, mib=LIMIT_MIB, seconds=LIMIT_SECONDS)
            cells.append(shown(found))
            # What small models take is mostly what any model takes.
            per_weight = found["MiB"] / weights if weights > 50_000 else 0.0
        print(f"{cost}: {name} on {model}: {cells[-1]}", file=sys.stderr)
    return cells


def shown(found: dict[str, float]) -> str:
    """One cell in words."""
    if "stopped" not in found:
        spent = found["seconds"]
        seconds = f"{1000 * spent:,.0f} ms" if spent < 10 else f"{spent:,.0f} s"
        return f"{seconds}, {found['MiB']:,.0f} MiB"
    if found["MiB"] >= LIMIT_MIB:
        return f"does not fit: above {found['MiB'] / 2**10:.1f} GiB"
    return f"more than {found['stopped']} s"


def cell(rule_name: str, model_name: str, cost: str) -> dict[str, float]:
    """Seconds and memory of one rule on one model; in a process of its own."""
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
    # A small model first, for what is imported or allocated only once.
    tiny = {"w": torch.ones(3, 2)}
    small = ngopt.NeuralGraph.per_tensor({"w": (3, 2)})
    update(tiny, tiny, init_state(tiny, small, rule), small, rule, {"w": Options()})
    options = dict.fromkeys(grads, Options())
    one_update = partial(update, weights, grads, state, graph, rule, options)

    def meta_gradient() -> None:
        loss_after = loss_of(one_update().params)
        torch.autograd.grad(loss_after, list(rule.parameters()), allow_unused=True)

    run = torch.no_grad()(one_update) if cost == "update" else meta_gradient
    return measured(run, REPEATS)
