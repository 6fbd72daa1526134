"""Inner steps per second of meta-training: runs stacked against one by one, and their growth.

    python -m benchmarks.meta_train                    # 1, 8, 32, 128 runs of an 8 x 8 MLP
    python -m benchmarks.meta_train --rules SmallFC --device cuda

Stacked and one-by-one take turns in rounds, so that their ratio holds on a busy machine too. One by
one is what meta-training is without `torch.vmap`: the same inner step on the tensors of a single
run, in a loop over the runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import grad_and_value

from meta_train.estimators.estimator import Particles
from meta_train.estimators.truncated_backprop import TruncatedBackprop
from meta_train.meta_loss import MetaLoss
from meta_train.rules import rule_of
from meta_train.tasks.mlp import MLP
from meta_train.tasks.task import Task
from meta_train.unroll.stacked import Stacked
from ngopt.optim.update import Options, init_state, update
from ngopt.rules.rule import Rule


def one_by_one(rule: Rule, task: Task, steps: int, learn: bool) -> Callable[[], None]:
    """What does `steps` inner steps of one run, and differentiates them if asked to."""
    generator = torch.Generator().manual_seed(0)
    start = task.problem(generator)
    state = init_state(start.parameters, task.graph, rule)
    options = dict.fromkeys(start.parameters, Options(1e-3))
    batches = [
        tuple(tensor[0] for tensor in task.batches({}, 1, generator)) for _ in range(steps + 1)
    ]

    def look(parameters: Mapping[str, Tensor], batch: tuple[Tensor, ...]):
        with torch.no_grad():
            return grad_and_value(task.loss)(parameters, start.context, batch)

    def run() -> None:
        with torch.set_grad_enabled(learn):
            parameters, carried, total = start.parameters, state, torch.zeros(())
            gradients, _ = look(parameters, batches[0])
            for batch in batches[1:]:
                step = update(parameters, gradients, carried, task.graph, rule, options)
                parameters, carried = step.params, step.state
                gradients, _ = look(parameters, batch)
                total = total + sum((parameters[n] * gradients[n]).sum() for n in parameters)
            if learn:
                torch.autograd.grad(total, list(rule.parameters()), allow_unused=True)

    return run


def stacked(rule: Rule, task: Task, runs: int, steps: int, learn: bool) -> Callable[[], object]:
    """What does `steps` inner steps of all runs at once, and differentiates them if asked to."""
    unroll = Stacked(rule)
    begun = unroll.begin(task, runs, torch.Generator().manual_seed(0))

    def forward() -> None:
        with torch.no_grad():
            unroll.advance(begun, steps)

    if not learn:
        return forward
    estimator = TruncatedBackprop(unroll, MetaLoss(), steps)
    return lambda: estimator.estimate(Particles(begun, {}))


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    since = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - since


def measure(rule: Rule, task: Task, counts: list[int], steps: int, rounds: int, learn: bool) -> str:
    """Figures of one row of the table."""
    cases: dict[int, Callable[[], object]] = {0: one_by_one(rule, task, steps, learn)}
    cases.update({runs: stacked(rule, task, runs, steps, learn) for runs in counts})
    for function in cases.values():
        function()
    taken: dict[int, list[float]] = {runs: [] for runs in cases}
    for _ in range(rounds):
        for runs, function in cases.items():
            taken[runs].append(seconds(function, task.device))
    single = steps / statistics.median(taken[0])
    row = f"{single:,.0f} |"
    for runs in counts:
        ratios = [runs * one / many for one, many in zip(taken[0], taken[runs], strict=True)]
        row += f" {steps * runs / statistics.median(taken[runs]):,.0f}"
        row += f" ({statistics.median(ratios):.1f} x) |"
    return row


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rules", nargs="+", default=["MatrixGNN", "SmallFC", "LSTM", "Adam"])
    parser.add_argument("--runs", nargs="+", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    family = MLP(width=(32,), depth=(1,))
    task = family.sample(torch.Generator().manual_seed(0)).to(device)
    print(f"{task.name}, {options.steps} inner steps, {torch.get_num_threads()} threads, {device}")
    print("Inner steps per second (ratio to one by one):\n")
    print("| rule | one by one |" + "".join(f" {runs} stacked |" for runs in options.runs))
    print("| --- | --- |" + " --- |" * len(options.runs))
    for text in options.rules:
        rule = rule_of(text).to(device)
        for learn in (False, True) if any(True for _ in rule.parameters()) else (False,):
            row = measure(rule, task, options.runs, options.steps, options.rounds, learn)
            print(f"| {text}, {'forward and backward' if learn else 'forward'} | {row}")


if __name__ == "__main__":
    main()
