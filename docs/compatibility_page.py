"""What the page of compatibility shows, and its text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from meta_train.table import table_lines


@dataclass(frozen=True)
class Row:
    """One row of the page.

    Args:
        section: of the page.
        name: what is tried.
        tests: modules of tests, each with a regular expression that the names of some begin with.
    """

    section: str
    name: str
    tests: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """What the results of the row are kept under."""
        return f"{self.section}: {self.name}"


TABLE = """
Trainers
  Lightning = trainers.test_lightning
  Accelerate = trainers.test_accelerate
  transformers.Trainer = trainers.test_transformers
  plain loops, closures, groups = optim.test_contract_step
  learning rate schedulers = optim.test_contract_schedulers
  state_dict, copies, pickles = optim.test_contract_state
Scale-out
  DDP = scale_out.test_scale_out:test_data
  a group of one process = scale_out.test_one_process
  FSDP2 = scale_out.test_scale_out:test_(sharded|state)
  torch.distributed.checkpoint = scale_out.test_scale_out:test_a_checkpoint\
 optim.test_checkpoint:test_distributed
  ZeroRedundancyOptimizer = scale_out.test_scale_out:test_zero
Precision and compilation
  autocast = optim.test_contract_precision:test_(half_precision_under|a_step_inside)
  GradScaler = optim.test_contract_precision:test_grad_scaler
  bfloat16 to float64 = optim.test_contract_precision:test_(para|half_precision_s)
  compiled model = optim.test_companions:test_a_compiled
  compiled step = optim.test_contract_compile
  CUDA graphs = optim.test_cuda_graphs
  channels_last and strides = optim.test_contract_tensors:test_(channels|parameters)
  odd shapes and tied weights = optim.test_contract_tensors:test_(odd|tied)
  checkpointed activations = optim.test_companions:test_checkpointed
  EMA and SWA = optim.test_companions:test_(an_averaged|swa)
  torch.func, higher = optim.test_companions:test_gradients optim.test_differentiable
Suites of others
  PyTorch's checks of optimizers = optim.test_optimizer_info
  small problems of optax and pytorch_optimizer = optim.test_contract_convergence
Faults
  spikes of the gradient = optim.test_faults:test_a_spike optim.test_spikes
  NaN and infinite gradients = optim.test_faults:test_steps_with_bad
  zero, constant, vanishing gradients = optim.test_faults:test_(gradients|a_constant)
  loss of another scale = optim.test_faults:test_(the_scale|a_tiny)
  layers freeze and thaw = optim.test_faults:test_layers
  another precision on the way = optim.test_faults:test_a_model_may
  another device on the way = optim.test_changing_parameters:test_parameters_may
  model changed after tracing = optim.test_changing_parameters:test_a_(layer|mod|par)
  no elements, more than 2^31 = optim.test_changing_parameters:test_(tensors|meta)
  many tiny tensors = optim.test_changing_parameters:test_(hundreds|ten_thousand)
  100,000 steps = optim.test_long_training
  random sequences of calls = optim.test_fuzz
Files
  damaged and lying rules = rules.test_damaged_files rules.test_library
  damaged cards = rules.test_cards
  damaged states of the optimizer = optim.test_damaged_states optim.test_checkpoint
  checkpoints of meta-training, killed writers = meta_train.test_checkpoint
  data sets = meta_train.data.test_cifar10 meta_train.data.test_idx
"""
"""Sections, and in them `name = module:pattern module:pattern`; without pattern, all tests."""


def _rows() -> Iterator[Row]:
    section = ""
    for line in TABLE.strip().splitlines():
        name, _, tests = line.strip().partition(" = ")
        if tests:
            parts = (test.partition(":")[::2] for test in tests.split())
            yield Row(section, name, tuple((f"tests.{module}", regex) for module, regex in parts))
        else:
            section = name


ROWS = tuple(_rows())
"""All rows, in order."""

HEAD = """# Compatibility

What ngopt is tested with, and the results, on the CPU, with torch {torch}. Made from results of
tests by `python docs/make_compatibility.py`. A case is one test with one set of parameters. The
last column has the same tests with `torch.optim.AdamW`, where they exist.
"""

PROBES = """
## Trials of ngopt, AdamW and PyLO

Each trial is a small program, run with `NeuralGraphOptimizer(parameters)`, with
`torch.optim.AdamW` (defaults, no weight decay), and with PyLO's `AdafacLO_naive` (small_fc_lopt)
from its repository at commit 1f959f00 (its network: d834b6ac), without its comments and with random
weights in place of those it downloads. They are in
[compatibility_probes.py](compatibility_probes.py).
"""


def page(content: Mapping[str, Any]) -> str:
    """Write the page of what is kept in `compatibility.json`."""
    text = HEAD.format(torch=content.get("torch", ""))
    head = ["", "tests", "cases", "failed", "skipped", "AdamW"]
    for section, rows in groupby(ROWS, lambda row: row.section):
        cells = [
            [row.name, _modules(row), *_figures(content["tests"].get(row.key))] for row in rows
        ]
        text += "\n".join([f"\n## {section}", "", *table_lines(head, cells), ""])
    probes = content["probes"]
    names = list(dict.fromkeys(name for outcomes in probes.values() for name in outcomes))
    cells = [[trial, *(o.get(name, "not run") for name in names)] for trial, o in probes.items()]
    return text + ("\n".join([PROBES, *table_lines(["", *names], cells), ""]) if probes else "")


def _modules(row: Row) -> str:
    modules = dict.fromkeys(module for module, _ in row.tests)
    return ", ".join(f"`{module.removeprefix('tests.')}`" for module in modules)


def _figures(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["not run", "", "", ""]
    skipped = "; ".join(f"{count}: {reason}" for reason, count in found["skipped"].items())
    other = found["AdamW"]
    beside = f"{other['cases']}, {other['failed']} failed" if other["cases"] else ""
    return [str(found["cases"]), str(found["failed"]), skipped.replace("\n", " "), beside]
