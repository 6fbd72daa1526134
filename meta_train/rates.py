"""Learning rates over the steps of a run."""

import math


def warmed_cosine(lr: float, step: int, steps: int, warmup: int, final: float) -> float:
    """Learning rate of a step: up along a line, then down along half a cosine.

    Args:
        lr: the largest one.
        step: counted from 0.
        steps: in all; later steps keep the last rate.
        warmup: number of steps until `lr` is reached.
        final: the last one, as a fraction of `lr`.

    >>> [round(warmed_cosine(1.0, step, 12, 2, 0.5), 2) for step in (0, 1, 2, 7, 12)]
    [0.5, 1.0, 1.0, 0.75, 0.5]
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return lr * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)
