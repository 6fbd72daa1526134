"""The greedy estimator of the neural-graphs paper."""

import torch

from meta_train.estimators.estimator import Estimator, Particles
from meta_train.estimators.truncated_backprop import derivative
from meta_train.tasks.task import Tensors


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
