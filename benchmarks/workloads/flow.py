"""A normalizing flow of affine couplings (RealNVP) on two moons."""

import math

import torch
from torch import Tensor, nn

from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.points import two_moons
from benchmarks.workloads.workload import Recipe, Training, Workload
from meta_train.tasks.model_parts import perceptron

COUPLINGS, WIDTH, BATCH, STEPS, HELD_OUT = 8, 64, 512, 4000, 10_000


class Coupling(nn.Module):
    """Scales and shifts the second coordinate by functions of the first; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(*perceptron([1, width, width, 2], "relu"))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """From points (n, 2) to points (n, 2), and the log-determinants (n,) of that."""
        first, second = x.split(1, 1)
        log_scale, shift = self.net(first).split(1, 1)
        return torch.cat([first, second * log_scale.exp() + shift], 1), log_scale.squeeze(1)


class RealNVP(nn.Module):
    """Couplings that take turns with both coordinates, onto a standard normal distribution."""

    def __init__(self, couplings: int, width: int) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(width) for _ in range(couplings))

    def forward(self, x: Tensor) -> Tensor:
        """Log-density (n,) of points (n, 2)."""
        volume = torch.zeros(len(x))
        for coupling in self.couplings:
            x, growth = coupling(x)
            x, volume = x.flip(1), volume + growth
        return volume - 0.5 * x.square().sum(1) - math.log(2 * math.pi)


class Density(Training):
    """Maximum likelihood on fresh points; the seed decides weights and points."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = RealNVP(COUPLINGS, WIDTH)
        # normflows decays by Adam's own option, which is no decoupled weight decay.
        super().__init__([(self.model, Recipe(torch.optim.Adam, lr=5e-4, decayed=1e-5))])
        self.generator = torch.Generator().manual_seed(seed)
        self.held_out = two_moons(HELD_OUT, torch.Generator().manual_seed(1_000_000))

    def loss(self) -> Tensor:
        """Mean negative log-density of the next points, in nats."""
        return -self.model(two_moons(BATCH, self.generator)).mean()

    def metric(self) -> float:
        """The same of held-out points."""
        with evaluating(self.model):
            return -self.model(self.held_out).mean().item()


WORKLOAD = Workload(
    name="flow",
    title="RealNVP, two moons",
    build=Density,
    steps=STEPS,
    every=STEPS // 20,
    metric="held-out negative log-likelihood",
    source="after normflows' two-moons example, "
    "https://github.com/VincentStimper/normalizing-flows; 8 couplings",
)
