"""Truncated backpropagation through time."""

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
