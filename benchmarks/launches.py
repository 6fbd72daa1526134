"""Operations of a step on a GPU: what it has to launch, with kernels of Triton and without.

    python -m benchmarks.launches
    python -m benchmarks.launches --models gpt2 gpt24 --optimizers ngopt

Steps are made on the meta device, so size costs nothing. Counted are operations that PyTorch
dispatches, without views and allocations, and kernels of our own; an operation on a list of tensors
counts once. The mean is over the first 1,000 steps, in which refreshes of the
graph context become rarer.
Without values, gradients are not compared with their usual size: with them, there are some 25
operations more.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

import ngopt
from benchmarks.contestant import refresh_share
from benchmarks.models import GPT2, ResNet, ResNet50, ViT, convnet, images, perceptron, words
from benchmarks.step import Case, muon
from meta_train.table import table_lines
from ngopt import NeuralGraph, NeuralGraphOptimizer
from ngopt.backends.backend import GPU
from ngopt.backends.function import Argument, Function, Result, number_of_outputs
from ngopt.backends.kernel import Kernel
from ngopt.backends.tables import Addresses, Tables
from ngopt.rules.buckets import compiled_step
from ngopt.rules.refresh_schedule import FIRST

FREE = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "expand", "permute", "transpose", "t", "diagonal"),
        *("unsqueeze", "squeeze", "select", "slice", "split", "split_with_sizes", "unbind"),
        *("as_strided", "detach", "alias", "_reshape_alias", "unflatten", "chunk", "narrow"),
        *("empty", "empty_like", "empty_strided", "new_empty", "is_same_size", "scalar_tensor"),
    }
)
"""Operations that launch nothing: views, allocations, numbers that become tensors."""


def gpt(layers: int) -> Case:
    """GPT-2 with another number of layers."""
    return Case(f"GPT-2, {layers} layers", lambda: GPT2(layers), words(50257, 1, 64))


class LSTM(nn.Module):
    """Two layers of 256 units over 32 words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 256)
        self.body = nn.LSTM(256, 256, 2, batch_first=True)
        self.head = nn.Linear(256, 100)

    def forward(self, given: Tensor) -> Tensor:
        """Logits `(batch * words, 100)`."""
        return self.head(self.body(self.embedding(given))[0]).flatten(0, 1)


CASES = {
    "mlp": Case("MLP 784-128-10", perceptron, images(8, 784)),
    "convnet": Case("convnet 3-16-32-32", lambda: convnet(3, 16), images(8, 3, 32, 32)),
    "resnet18": Case("ResNet-18", ResNet, images(2, 3, 224, 224)),
    "resnet50": Case("ResNet-50", ResNet50, images(2, 3, 224, 224)),
    "vit": Case("ViT-B/16", ViT, images(2, 3, 224, 224)),
    "gpt2": gpt(12),
    "gpt24": gpt(24),
    "gpt48": gpt(48),
    "lstm": Case("LSTM, two layers of 256", LSTM, words(100, 2, 32)),
}
Build = Callable[[nn.Module, NeuralGraph], list[Optimizer]]


def ours(model: nn.Module, graph: NeuralGraph) -> list[Optimizer]:
    """The default rule, whose weights are on the meta device, too."""
    rule = ngopt.load_rule("default").to("meta")
    return [NeuralGraphOptimizer(model.named_parameters(), graph=graph, rule=rule)]


OPTIMIZERS: dict[str, Build] = {
    "ngopt": ours,
    "ngopt, eager": ours,
    "Adam, foreach": lambda model, graph: [Adam(model.parameters(), foreach=True)],
    "Muon": lambda model, graph: muon(model),
}


class Count(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def kernel(
        self, function: Function, arguments: Sequence[Argument], results: Sequence[Result]
    ) -> Kernel:
        """A kernel that computes nothing and is counted."""
        return _Kernel(self, number_of_outputs(results))

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.name().partition("::")[2].partition(".")[0]
        self.number += name not in FREE
        return function(*args, **(kwargs or {}))


class _Kernel:
    def __init__(self, count: Count, outputs: int) -> None:
        self._count, self.outputs = count, outputs

    def on(
        self, sizes: Addresses, arguments: Addresses, results: Addresses, among: Tables
    ) -> Callable[[], None]:
        """Return what is counted whenever it is called."""

        def call() -> None:
            self._count.number += 1

        return call


def counted(case: Case, build: Build, *, kernels: bool = True) -> dict[str, float]:
    """Operations of a step with cached and with refreshed context, and the mean over many steps.

    Args:
        case: what is trained.
        build: makes the optimizers.
        kernels: whether there are kernels of Triton, which count once each.
    """
    model = case.build()
    graph = ngopt.trace(model, case.batch())
    model = model.to("meta")
    for weight in model.parameters():
        weight.grad = torch.empty_like(weight)
    optimizers = build(model, graph)
    found = []
    cycle = max(getattr(getattr(o, "rule", None), "refresh_every", 1) for o in optimizers)
    count = Count()
    backend = replace(GPU, make=count.kernel) if kernels else None
    with patch.object(compiled_step, "backend_for", lambda _: backend):
        for _ in range(FIRST + 2 * cycle if cycle > 1 else 3):
            count.number = 0
            with count:
                for optimizer in optimizers:
                    optimizer.step()
            found.append(count.number)
    between, refresh, share = min(found[-cycle:]), max(found[-cycle:]), refresh_share(cycle)
    return {"between": between, "refresh": refresh, "mean": share * refresh + (1 - share) * between}


def main() -> None:
    """Count and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS)
    parser.add_argument("--out", type=Path, help="a file for the numbers, as JSON")
    options = parser.parse_args()
    found = {
        model: {
            name: counted(CASES[model], OPTIMIZERS[name], kernels="eager" not in name)
            for name in options.optimizers
        }
        for model in options.models
    }
    head = [
        "model",
        *(f"{name}: cached context, refreshed context, mean" for name in options.optimizers),
    ]
    rows = [
        [
            CASES[model].name,
            *(f"{c['between']:,} / {c['refresh']:,} / {c['mean']:,.0f}" for c in row.values()),
        ]
        for model, row in found.items()
    ]
    print("\n".join(table_lines(head, rows)))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
