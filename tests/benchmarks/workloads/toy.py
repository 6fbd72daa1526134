"""A training that takes no time."""

import torch
from torch import nn

from benchmarks.workloads.workload import Recipe, Training, Workload, linear

STEPS = 8


class Toy(Training):
    """Regression with dropout and batch normalization, so that modes and random numbers matter."""

    def __init__(self, seed, decayed=0.1):
        torch.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1)
        )
        recipe = Recipe(torch.optim.AdamW, 0.01, decayed=decayed, schedule=linear(STEPS))
        super().__init__([(self.model, recipe)], clip=1.0)
        self.generator = torch.Generator().manual_seed(seed)

    def batch(self, generator):
        x = torch.randn(16, 4, generator=generator)
        return x, x.sum(1, keepdim=True)

    def loss(self):
        x, y = self.batch(self.generator)
        return (self.model(x) - y).square().mean()

    @torch.no_grad()
    def metric(self):
        self.model.eval()
        x, y = self.batch(torch.Generator().manual_seed(99))
        loss = (self.model(x) - y).square().mean().item()
        self.model.train()
        return loss


def toy(**changes):
    options = {"name": "toy", "title": "toy", "build": Toy, "steps": STEPS, "every": 3}
    return Workload(**{**options, "metric": "loss", "source": "This test.", **changes})
