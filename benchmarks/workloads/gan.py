"""A generative adversarial network on eight Gaussians."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.optim import Optimizer

from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.points import eight_gaussians, energy_distance
from benchmarks.workloads.workload import Recipe, Training, Workload
from meta_train.tasks.model_parts import perceptron

LATENT, WIDTH, BATCH, STEPS, TESTED = 32, 128, 256, 6000, 2000
PENALTY = 1.0
"""Gamma of R1, without which a generator goes round from one Gaussian to the next."""


class Adversaries(Training):
    """A step of the discriminator, with R1, and one of the generator, in turns.

    The optimizers are the generator's and the discriminator's; the seed decides weights and points.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.generator = nn.Sequential(*perceptron([LATENT, WIDTH, WIDTH, 2], "relu"))
        self.discriminator = nn.Sequential(*perceptron([2, WIDTH, WIDTH, 1], "relu"))
        recipe = Recipe(torch.optim.Adam, lr=1e-3, options={"betas": (0.5, 0.999)})
        super().__init__([(self.generator, recipe), (self.discriminator, recipe)])
        self.random = torch.Generator().manual_seed(seed)
        held_out = torch.Generator().manual_seed(1_000_000)
        self.latent = torch.randn(TESTED, LATENT, generator=held_out)
        self.held_out = eight_gaussians(TESTED, held_out)

    def step(self, optimizers: Sequence[Optimizer]) -> float:
        """One step of each; returns the discriminator's loss before."""
        generator, discriminator = optimizers
        real = eight_gaussians(BATCH, self.random).requires_grad_()
        fake = self.generator(torch.randn(BATCH, LATENT, generator=self.random))
        logits = self.discriminator(real)
        (slopes,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        loss = F.softplus(-logits).mean() + F.softplus(self.discriminator(fake.detach())).mean()
        loss = loss + 0.5 * PENALTY * slopes.square().sum(1).mean()
        discriminator.zero_grad()
        loss.backward()
        discriminator.step()
        generator.zero_grad()
        F.softplus(-self.discriminator(fake)).mean().backward()
        generator.step()
        return loss.item()

    def metric(self) -> float:
        """Energy distance of generated points to held-out ones, with the same latent numbers."""
        with evaluating(self.generator):
            return energy_distance(self.generator(self.latent), self.held_out)


WORKLOAD = Workload(
    name="gan",
    title="GAN, eight Gaussians",
    build=Adversaries,
    steps=STEPS,
    every=STEPS // 20,
    metric="energy distance",
    source="data after L. Metz et al., Unrolled generative adversarial networks (2017); R1 of "
    "L. Mescheder et al., Which training methods for GANs do actually converge? (2018); Adam's "
    "betas of DCGAN, A. Radford et al. (2016); its lr and the weight of R1 were chosen here, for "
    "Adam",
)
