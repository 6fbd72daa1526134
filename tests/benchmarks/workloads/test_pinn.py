import numpy as np
import pytest

from benchmarks.workloads.pinn import VISCOSITY, exact


def test_the_solution_of_burgers_solves_it():
    x, t, step = np.array([-0.7, -0.2, 0.3, 0.9]), np.full(4, 0.3), 1e-4
    u_t = (exact(x, t + step) - exact(x, t - step)) / (2 * step)
    after, u, before = (exact(x + d, t) for d in (step, 0.0, -step))
    bend = (after - 2 * u + before) / step**2
    residual = u_t + u * (after - before) / (2 * step) - VISCOSITY * bend
    assert np.abs(residual).max() < 1e-3 * np.abs(u_t).max()
    assert exact(x, np.full(4, 1e-9)) == pytest.approx(-np.sin(np.pi * x), abs=1e-4)
