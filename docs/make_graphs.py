"""Write docs/graphs.md: what tracing finds in each model of the zoo, and what it costs.

Run it as `python docs/make_graphs.py`; with `--no-gpt2`, the slow part keeps its old numbers.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the zoo is not installed

from docs.own_process import measured, run_alone  # noqa: E402
from meta_train.table import table_lines  # noqa: E402
from ngopt.graph.neural_graph import NeuralGraph  # noqa: E402
from ngopt.graph.trace import trace  # noqa: E402
from tests.zoo import ZOO, Entry  # noqa: E402

PAGE = ROOT / "docs" / "graphs.md"
SLOW = "## A large model\n"
PASSES = {
    "forward": "one forward pass under `no_grad`",
    "trace": "`ngopt.trace(model, x)`",
    "verify": "`ngopt.trace(model, x, verify=True)`",
}

READING = """# The graphs of 90 models

Written by `python docs/make_graphs.py`: do not edit.

`ngopt.trace(model, x, verify=True)` runs one forward pass and finds which axes of which parameters
run over the same neurons. The models are in `tests/zoo/`; their widths all differ where possible.

* **hidden spaces**: sets of neurons that can be permuted in all their tensors at once without
  changing the model. `12` is a space of 12 neurons. `5 in 3` is a space of 5 inside each of 3,
  permuted independently in each: the dimensions of a head, the channels of a group. The 3 move as
  blocks.
* **expected**: whether these are the spaces that the model must have, as written down in the zoo.
* **verified**: whether permuting each of them left the output unchanged.
* **pinned**: number of spaces with fixed places: inputs, outputs, vocabularies, positions.
* **share**: parameter entries that touch at least one hidden space.
* **trace**: seconds to trace without verification, median of 3. In models this small it is the cost
  of Python and grows with the number of operations, not with their size; compare the large model
  at the end.
"""

LARGE = """
GPT-2 small of transformers with random weights (12 layers, 124 M parameters), one sequence of 64
words, each in a new process, first call. Memory is the peak of the process during the pass, above
what it had before.

"""


def spaces(graph: NeuralGraph) -> list[str]:
    """The hidden spaces, in words."""
    found = [
        " in ".join([str(space.size), *(str(graph.spaces[name].size) for name in space.within)])
        for space in graph.hidden
    ]
    return sorted(found, key=lambda word: [int(n) for n in word.split(" in ")][::-1])


def row(name: str, entry: Entry) -> list[str]:
    """One line of the table."""
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


def measure(what: str) -> None:
    """Print, as JSON, what one pass over GPT-2 small costs; run in a process of its own."""
    import transformers

    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(use_cache=False)).eval()
    tokens = torch.randint(50257, (1, 64), generator=torch.Generator().manual_seed(0))
    run = partial(trace, model, tokens, verify=what == "verify")
    if what == "forward":
        run = torch.no_grad()(partial(model, tokens))
    print(json.dumps(measured(run)))


def large() -> str:
    """What tracing GPT-2 small costs."""
    found = {what: run_alone(__file__, "--measure", what) for what in PASSES}
    unit = found["forward"]["seconds"]
    rows = [
        [PASSES[what], f"{s['seconds']:.2f}", f"{s['seconds'] / unit:.1f}", f"{s['MiB']:.0f}"]
        for what, s in found.items()
    ]
    head = ["pass", "seconds", "multiple", "peak memory, MiB"]
    return SLOW + LARGE + "\n".join(table_lines(head, rows))


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-gpt2", action="store_true", help="leave out the slow part")
    parser.add_argument("--measure", choices=list(PASSES), help="used inside")
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    old = PAGE.read_text().partition(SLOW)[2] if PAGE.exists() else ""
    slow = (SLOW + old if old else "") if options.no_gpt2 else large()
    system = f"{torch.get_num_threads()} CPU thread(s), torch {torch.__version__}"
    head = ["model", "hidden spaces", "expected", "verified", "pinned", "share", "trace, s"]
    table = "\n".join(table_lines(head, [row(name, entry) for name, entry in ZOO.items()]))
    PAGE.write_text(f"{READING}\nMeasured with {system}.\n\n{table}\n\n{slow}".rstrip() + "\n")


if __name__ == "__main__":
    main()
