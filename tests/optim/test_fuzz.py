"""Random sequences of steps, copies, checkpoints and faults; see :mod:`tests.optim.machine`."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from ngopt.backends.dispatch import without_loops
from tests.optim.machine import Machine


def run(examples, length):
    given = settings(
        max_examples=examples,
        stateful_step_count=length,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=given)


def test_whatever_is_done_keeps_the_contract():
    with without_loops():
        run(20, 15)


@pytest.mark.slow
def test_whatever_is_done_for_long_keeps_the_contract():
    with without_loops():
        run(500, 40)


@pytest.mark.slow
def test_recorded_steps_keep_the_contract():
    run(30, 15)
