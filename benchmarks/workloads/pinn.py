"""A physics-informed network for Burgers' equation."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.workload import Recipe, Training, Workload

VISCOSITY = 0.01 / np.pi
INSIDE, SIDES, START = 2540, 80, 160
WIDTH, LAYERS, STEPS = 20, 3, 8000


def exact(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Solution of u_t + u u_x = 0.01 / pi u_xx for u = -sin(pi x) at first and 0 at both sides.

    By the transform of Cole and Hopf, with Gauss-Hermite quadrature: C. Basdevant et al.,
    Spectral and finite difference solutions of the Burgers equation (1986).

    Args:
        x: places in [-1, 1], of any shape.
        t: times above 0, of the same shape.
    """
    nodes, weights = np.polynomial.hermite.hermgauss(200)
    y = np.pi * (x[..., None] - 2 * np.sqrt(VISCOSITY * t)[..., None] * nodes)
    exponents = -np.cos(y) / (2 * np.pi * VISCOSITY)
    factors = weights * np.exp(exponents - exponents.max(-1, keepdims=True))
    return -(np.sin(y) * factors).sum(-1) / factors.sum(-1)


class Net(nn.Module):
    """A tanh perceptron with Glorot's initial weights."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        sizes = [2, *[width] * layers, 1]
        modules: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layer = nn.Linear(inputs, outputs)
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
            modules += [layer, nn.Tanh()]
        self.layers = nn.Sequential(*modules[:-1])

    def forward(self, points: Tensor) -> Tensor:
        """From points (n, 2) of x and t to u (n,)."""
        return self.layers(points).squeeze(1)


def derivatives(u: Tensor, points: Tensor) -> Tensor:
    """Derivatives (n, 2) by x and t of values (n,), one for each point."""
    return torch.autograd.grad(u.sum(), points, create_graph=True)[0]


class Burgers(Training):
    """Training on points that the seed draws once for all, as it decides the initial weights."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Net(WIDTH, LAYERS)
        super().__init__([(self.model, Recipe(torch.optim.Adam, lr=1e-3))])
        generator = torch.Generator().manual_seed(seed)
        count = INSIDE + SIDES + START
        x, t = torch.rand(2, count, generator=generator)
        x = 2 * x - 1
        sides, start = slice(INSIDE, INSIDE + SIDES), slice(INSIDE + SIDES, count)
        x[sides] = x[sides].sign()
        t[start] = 0
        self.points = torch.stack([x, t], 1).requires_grad_()
        self.given = -torch.sin(torch.pi * x[INSIDE:])
        self.given[:SIDES] = 0
        axes = np.meshgrid(np.linspace(-1, 1, 129), np.linspace(0.02, 1, 50), indexing="ij")
        self.places = torch.tensor(np.stack(axes, -1), dtype=torch.float32).flatten(0, 1)
        self.exact = torch.tensor(exact(*axes), dtype=torch.float32).flatten()

    def loss(self) -> Tensor:
        """Mean squares of the equation's residual, of errors at the sides and at the start."""
        u = self.model(self.points)
        slopes = derivatives(u, self.points)
        bend = derivatives(slopes[:, 0], self.points)[:, 0]
        residual = slopes[:, 1] + u * slopes[:, 0] - VISCOSITY * bend
        errors = (u[INSIDE:] - self.given).square()
        return residual.square().mean() + errors[:SIDES].mean() + errors[SIDES:].mean()

    def metric(self) -> float:
        """Error on a grid, as a fraction of the norm of the solution."""
        with evaluating(self.model):
            error = self.model(self.places) - self.exact
        return (error.norm() / self.exact.norm()).item()


WORKLOAD = Workload(
    name="pinn",
    title="physics-informed net, Burgers",
    build=Burgers,
    steps=STEPS,
    every=STEPS // 20,
    metric="relative L2 error",
    source="after Adam's part of Burgers.py of DeepXDE, https://github.com/lululxvi/deepxde",
)
