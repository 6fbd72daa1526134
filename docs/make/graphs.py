"""docs/graphs.md: what tracing finds in each model of the zoo, and what it costs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from docs.make.measure import alone, measured
from docs.make.page import DOCS, fill
from meta_train.table import table_lines
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.trace import trace
from tests.zoo import ZOO, Entry

HEAD = ["model", "hidden spaces", "expected", "verified", "pinned", "share", "trace, s"]
PASSES = {
    "forward": "one forward pass under `no_grad`",
    "trace": "`ngopt.trace(model, x)`",
    "verify": "`ngopt.trace(model, x, verify=True)`",
}


def make(given: Sequence[str], page: Path = DOCS / "graphs.md") -> None:
    """Trace all models; takes no arguments."""
    if given:
        raise SystemExit(f"graphs takes no `{given[0]}`.\n  Use: python -m docs.make graphs")
    system = f"{torch.get_num_threads()} CPU thread(s), torch {torch.__version__}"
    blocks = {
        "measured": [f"Measured with {system}."],
        "zoo": table_lines(HEAD, [row(name, entry) for name, entry in ZOO.items()]),
        "large": large(),
    }
    fill(page, blocks)


def spaces(graph: NeuralGraph) -> list[str]:
    """The hidden spaces, in words."""
    found = [
        " in ".join([str(space.size), *(str(graph.spaces[name].size) for name in space.within)])
        for space in graph.hidden
    ]
    return sorted(found, key=lambda word: [int(n) for n in word.split(" in ")][::-1])


def row(name: str, entry: Entry) -> list[str]:
    """What is found in a model of the zoo."""
    model, args, kwargs = entry.build()
    graph = trace(model, *args, verify=True, **kwargs)
    spent = measured(partial(trace, model, *args, **kwargs), 3)["seconds"]
    found, hidden = spaces(graph), {space.name for space in graph.hidden}
    touching = sum(b.numel for b in graph.bundles if hidden.intersection(b.spaces()))
    right = tuple(sorted(found)) == entry.hidden
    return [
        *(name, ", ".join(found)),
        "yes" if right else f"no: {', '.join(entry.hidden)}",
        "yes" if graph.verified else "no",
        str(len(graph.spaces) - len(hidden)),
        f"{touching / sum(bundle.numel for bundle in graph.bundles):.1%}",
        f"{spent:.3f}",
    ]


def large() -> list[str]:
    """What tracing GPT-2 small costs."""
    found = {name: alone(gpt2, name) for name in PASSES}
    unit = found["forward"]["seconds"]
    cells = [
        [PASSES[name], f"{f['seconds']:.2f}", f"{f['seconds'] / unit:.1f}", f"{f['MiB']:.0f}"]
        for name, f in found.items()
    ]
    return table_lines(["pass", "seconds", "multiple", "peak memory, MiB"], cells)


def gpt2(name: str) -> dict[str, float]:
    """Seconds and memory of one pass over GPT-2 small; in a process of its own."""
    import transformers

    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(use_cache=False)).eval()
    tokens = torch.randint(50257, (1, 64), generator=torch.Generator().manual_seed(0))
    run = partial(trace, model, tokens, verify=name == "verify")
    if name == "forward":
        run = torch.no_grad()(partial(model, tokens))
    return measured(run)
