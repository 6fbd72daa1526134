from itertools import pairwise

import pytest

from ngopt.rules.refresh_schedule import (
    ROOT_GROWTH,
    ROOT_INTERVAL,
    is_refresh_step,
    is_root_step,
)


@pytest.mark.parametrize("every", [1, 2, 8, 30])
def test_roots_are_computed_more_often_in_the_beginning(every):
    refreshes = [step for step in range(5000) if is_refresh_step(step, every)]
    steps = [step for step in refreshes if is_root_step(step, every)]
    assert steps[0] == 0
    slack = max(later - step for step, later in pairwise(refreshes))
    for step, later in pairwise(steps):
        assert later - step <= ROOT_INTERVAL + slack
        if step < ROOT_INTERVAL:
            assert later - step <= (step + 1) * (ROOT_GROWTH - 1) + 1 + slack
    assert len(steps) < 40
