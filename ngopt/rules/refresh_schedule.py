"""At which steps the graph context and the roots of covariances are computed anew."""

FIRST = 10
"""Number of first steps. Much changes in them, so the context is recomputed at each."""

STEADY = 16
"""Number of refreshes after the first steps until the interval between refreshes doubles."""

LONGEST = 8
"""Largest factor by which the interval grows: late in training, a step changes little."""


def interval(step: int, every: int) -> int:
    """Number of steps between refreshes of the context, after the first steps.

    It doubles after `STEADY * every` steps, and again each time that their number has doubled.

    Args:
        step: counted from 0.
        every: number of steps between refreshes in the beginning; 1 to refresh at each step.

    >>> [interval(step, 8) for step in (10, 137, 138, 265, 266, 522, 5000)]
    [8, 8, 16, 16, 32, 64, 64]
    """
    times = 1
    while every > 1 and times < LONGEST and step + 1 - FIRST > STEADY * every * times:
        times *= 2
    return every * times


def is_refresh_step(step: int, every: int) -> bool:
    """Whether a rule recomputes its graph context at a step.

    Args:
        step: counted from 0.
        every: as for :func:`interval`.

    >>> [step for step in range(20) if not is_refresh_step(step, 4)]
    [10, 11, 12, 14, 15, 16, 18, 19]
    """
    return step < FIRST or (step + 1 - FIRST) % interval(step, every) == 0
