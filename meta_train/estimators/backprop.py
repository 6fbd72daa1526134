"""Backpropagation through inner steps: through whole truncations, or through each step alone."""

from collections.abc import Mapping

import torch
from torch import Tensor

from meta_train.estimators.estimator import Estimator, Particles
from meta_train.tasks.task import Tensors


class TruncatedBackprop(Estimator):
    """Differentiates through all inner steps of a truncation, and none before.

    The exact derivative over a truncation, given where it starts; biased, since it does not see how
    theta led there, and of low variance as long as the inner runs are not chaotic.
    """

    def _estimate(self, particles: Particles) -> tuple[Tensors, Tensor, Particles]:
        theta = dict(self.unroll.rule.named_parameters())
        with torch.enable_grad():
            runs, losses = self.unroll.advance(particles.runs, self.truncation)
            meta_losses = self.meta_loss(losses, runs.unit)
            gradient = derivative(meta_losses.mean(), theta)
        return gradient, meta_losses, Particles(runs.detached(), {})


def derivative(loss: Tensor, theta: Mapping[str, Tensor]) -> Tensors:
    """Derivative of a loss with respect to theta; zeros where it is frozen or does not matter."""
    slopes = {name: torch.zeros_like(weight) for name, weight in theta.items()}
    learned = {name: weight for name, weight in theta.items() if weight.requires_grad}
    if learned and loss.requires_grad:
        weights = list(learned.values())
        found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        slopes.update(zip(learned, found, strict=True))
    return slopes


class Greedy(Estimator):
    """Differentiates each inner step by itself, and forgets it before the next.

    The sum over the steps of a truncation of the derivatives of the loss right after each step, on
    what the unroll measures (the paper: the same batch), over the number of steps. Needs the memory
    of one step; blind to what a step does to later ones. Source: Kofinas et al., "Graph Neural
    Networks for Learning Equivariant Representations of Neural Networks", ICLR 2024.
    """

    def _estimate(self, particles: Particles) -> tuple[Tensors, torch.Tensor, Particles]:
        theta = dict(self.unroll.rule.named_parameters())
        gradient = {name: torch.zeros_like(weight) for name, weight in theta.items()}
        runs, losses = particles.runs, []
        for _ in range(self.truncation):
            with torch.enable_grad():
                runs, loss = self.unroll.advance(runs, 1)
                meta_loss = self.meta_loss(loss, runs.unit)
                slope = derivative(meta_loss.mean() / self.truncation, theta)
            gradient = {name: total + slope[name] for name, total in gradient.items()}
            runs = runs.detached()
            losses.append(meta_loss.detach())
        return gradient, torch.stack(losses).mean(0), Particles(runs, {})
