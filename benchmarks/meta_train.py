"""Inner steps per second of meta-training by PES, and where the time goes.

    python -m benchmarks.meta_train
    python -m benchmarks.meta_train --families mlp:width=32,depth=1 --pairs 8 512 --device cuda

A pair is two runs of one problem. Each number is the best of some rounds. Parts of a step are timed
in a round of their own: the models (forward and backward pass), the rule, the batches, and the
rest, which is noise, meta-losses and divergence checks. On the CPU, CPU time is measured, so that
other programs hardly matter.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from meta_train.estimators.estimator import Particles
from meta_train.estimators.evolution_strategies import PES
from meta_train.meta_loss import MetaLoss
from meta_train.rules import rule_of
from meta_train.table import table_lines
from meta_train.tasks.family import family_of
from meta_train.tasks.task import Task
from meta_train.unroll.move import Move
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from ngopt.rules.rule import Rule

RULE = "MatrixGNN:context_every=8,square_dtype=bfloat16"
FAMILIES = (
    "mlp:size=8,width=32,depth=1",
    "convnet:size=8,width=8,depth=2,batch=32",
    "rnn_lm:cell=gru,width=32,length=16,batch=16",
    "transformer_lm:width=32,depth=2,length=32,heads=4,batch=16",
)
PARTS = ("models", "rule", "batches")


class Clock:
    """Reads the time, once the device has done all that it was given.

    Args:
        device: the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"

    def __call__(self) -> float:
        """Seconds since some moment."""
        if self._cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()


class Timed(Stacked):
    """Keeps account of the time that each part of an inner step takes.

    Args:
        rule: the rule.
        options: of the unroll.
        clock: reads the time.
    """

    def __init__(self, rule: Rule, options: UnrollOptions, clock: Clock) -> None:
        super().__init__(rule, options)
        self._clock = clock
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        begun = self._clock()
        yield
        self.seconds[part] += self._clock() - begun  # type: ignore[assignment]

    def _gradients(self, *given: Any) -> Any:
        with self._timed("models"):
            return super()._gradients(*given)

    def _batches(self, *given: Any) -> Any:
        with self._timed("batches"):
            return super()._batches(*given)

    def _mover(self, *given: Any) -> Move:
        move = super()._mover(*given)

        def timed(*arguments: Any, **options: Any) -> Any:
            with self._timed("rule"):
                return move(*arguments, **options)

        return timed


def measure(
    rule: Rule, task: Task, pairs: int, steps: int, rounds: int
) -> tuple[float, dict[str, float]]:
    """Inner steps per second, and what share of the time each part takes.

    On a GPU steps are recorded and replayed, and have no parts.

    Args:
        rule: the rule.
        task: what the runs minimise.
        pairs: number of pairs of runs.
        steps: number of inner steps of an estimate.
        rounds: number of estimates that are timed.
    """
    clock = Clock(task.device)
    options = UnrollOptions(looks="due")

    def begun(unroll: Stacked) -> tuple[PES, Particles]:
        estimator = PES(unroll, MetaLoss(), steps, 0.03)
        particles = estimator.begin(task, pairs, torch.Generator().manual_seed(0))
        return estimator, estimator.estimate(particles).particles  # what is made once is made

    best = float("inf")
    estimator, particles = begun(Stacked(rule, options))
    for _ in range(rounds):
        start = clock()
        particles = estimator.estimate(particles).particles
        best = min(best, clock() - start)
    per_second = 2 * pairs * steps / best
    if task.device.type == "cuda":
        return per_second, {}
    unroll = Timed(rule, options, clock)
    estimator, particles = begun(unroll)
    unroll.seconds.clear()
    start = clock()
    estimator.estimate(particles)
    whole = clock() - start
    shares = {part: unroll.seconds[part] / whole for part in PARTS}
    return per_second, shares | {"rest": 1 - sum(shares.values())}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rule", default=RULE)
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--pairs", nargs="+", type=int, default=[8, 64])
    parser.add_argument("--steps", type=int, default=16, help="of an estimate")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    rule = rule_of(options.rule).to(device)
    print(f"{options.rule}, PES, {torch.get_num_threads()} threads, {device}\n")
    rows = []
    for text in options.families:
        task = family_of(text).sample(torch.Generator().manual_seed(0)).to(device)
        for pairs in options.pairs:
            speed, shares = measure(rule, task, pairs, options.steps, options.rounds)
            parts = [f"{shares[part]:.0%}" if shares else "" for part in (*PARTS, "rest")]
            rows.append([text, str(2 * pairs), f"{speed:,.0f}", *parts])
    print("\n".join(table_lines(["family", "runs", "steps/s", *PARTS, "rest"], rows)))


if __name__ == "__main__":
    main()
