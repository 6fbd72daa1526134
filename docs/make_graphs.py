"""Write docs/graphs.md: what tracing finds in each model of the zoo, and what it costs.

Run it as `python docs/make_graphs.py`; with `--no-gpt2`, the slow part keeps its old numbers.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the zoo is not installed

from ngopt.graph.neural_graph import NeuralGraph  # noqa: E402
from ngopt.graph.trace import trace  # noqa: E402
from tests.zoo import ZOO, Entry  # noqa: E402

PAGE = ROOT / "docs" / "graphs.md"
SLOW = "## A large model\n"

READING = """# The graphs of the zoo

Written by `python docs/make_graphs.py`: do not edit.

`ngopt.trace(model, x, verify=True)` runs one forward pass and finds which axes of which parameters
run over the same neurons. Each model below stands in `tests/zoo/`, with widths that all differ
where they can.

* **hidden spaces**: sets of neurons that can be permuted in all their tensors at once without
  changing the model. `12` is a space of 12 neurons. `5 in 3` is a space of 5 inside each of 3,
  permuted independently in each: the dimensions of a head, the channels of a group. The 3 move as
  blocks.
* **expected**: whether these are the spaces that theory gives, as written down in the zoo.
* **verified**: whether permuting each of them left the output unchanged.
* **pinned**: the number of spaces that have fixed places: inputs, outputs, vocabularies, positions.
* **share**: parameter entries that touch at least one hidden space.
* **trace**: seconds to trace without verification, median of 3. In models this small it is the cost
  of Python and grows with the number of operations, not with their size; compare the large model
  at the end.
"""


def spaces(graph: NeuralGraph) -> str:
    """The hidden spaces, in words."""
    found = [
        " in ".join([str(space.size), *(str(graph.spaces[name].size) for name in space.within)])
        for space in graph.hidden
    ]
    return ", ".join(sorted(found, key=lambda word: [int(n) for n in word.split(" in ")][::-1]))


def share(graph: NeuralGraph) -> float:
    """Share of the parameter entries that touch a hidden space."""
    hidden = {space.name for space in graph.hidden}
    touching = sum(b.numel for b in graph.bundles if hidden.intersection(b.spaces()))
    return touching / sum(bundle.numel for bundle in graph.bundles)


def seconds(run: Callable[[], Any], repeats: int = 3) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def row(name: str, entry: Entry) -> str:
    """One line of the table."""
    model, args, kwargs = entry.build()
    graph = trace(model, *args, verify=True, **kwargs)
    traced = seconds(lambda: trace(model, *args, **kwargs))
    hidden = tuple(sorted(spaces(graph).split(", ")))
    cells = [
        name,
        spaces(graph),
        "yes" if hidden == entry.hidden else f"no: {', '.join(entry.hidden)}",
        "yes" if graph.verified else "no",
        str(len(graph.spaces) - len(graph.hidden)),
        f"{share(graph):.1%}",
        f"{traced:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """The table of the zoo."""
    head = ["model", "hidden spaces", "expected", "verified", "pinned", "share", "trace, s"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *(row(name, entry) for name, entry in ZOO.items())])


def measure(what: str) -> None:
    """Print seconds and peak memory (MiB, above the model's own) of one pass over GPT-2 small."""
    import transformers

    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(use_cache=False)).eval()
    tokens = torch.randint(50257, (1, 64), generator=torch.Generator().manual_seed(0))
    before = _peak(forget=True)
    start = time.perf_counter()
    if what == "forward":
        with torch.no_grad():
            model(tokens)
    else:
        trace(model, tokens, verify=what == "verify")
    print(time.perf_counter() - start, _peak() - before)


def _peak(forget: bool = False) -> float:
    """Peak memory of this process in MiB; Linux only, which can also forget it."""
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def large() -> str:
    """What tracing GPT-2 small costs, each pass in a process of its own."""
    results = {}
    for what in ("forward", "trace", "verify"):
        command = [sys.executable, str(Path(__file__).resolve()), "--measure", what]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[what] = [float(word) for word in done.stdout.split()[-2:]]
    names = {
        "forward": "one forward pass under `no_grad`",
        "trace": "`ngopt.trace(model, x)`",
        "verify": "`ngopt.trace(model, x, verify=True)`",
    }
    lines = [
        f"| {names[what]} | {spent:.2f} | {spent / results['forward'][0]:.1f} | {peak:.0f} |"
        for what, (spent, peak) in results.items()
    ]
    text = (
        "GPT-2 small of transformers with random weights (12 layers, 124 M parameters), one\n"
        "sequence of 64 words, each in a fresh process, first call. Memory is the peak of the\n"
        "process during the pass, above what it had before.\n"
    )
    head = "| pass | seconds | multiple | peak memory, MiB |\n| --- | --- | --- | --- |"
    return "\n".join([SLOW, text, head, *lines, ""])


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-gpt2", action="store_true", help="leave out the slow part")
    parser.add_argument("--measure", choices=["forward", "trace", "verify"], help="used inside")
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    old = PAGE.read_text().partition(SLOW)[2] if PAGE.exists() else ""
    slow = (SLOW + old if old else "") if options.no_gpt2 else large()
    system = f"{torch.get_num_threads()} CPU thread(s), torch {torch.__version__}"
    PAGE.write_text(f"{READING}\nMeasured with {system}.\n\n{table()}\n\n{slow}".rstrip() + "\n")


if __name__ == "__main__":
    main()
