"""What evolution strategies share: pairs of runs with theta perturbed to either side."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.estimators.estimator import Estimator, Particles
from meta_train.meta_loss import MetaLoss
from meta_train.tasks.task import Tensors
from meta_train.turns import Work, finished
from meta_train.unroll.runs import Runs
from meta_train.unroll.unroll import Unroll


class Antithetic(Estimator):
    """Compares two runs of each problem, which differ by nothing but Gaussian noise on theta.

    The first of a pair is trained with theta plus the noise, the second with theta minus it, on the
    same batches. No step is remembered, and frozen weights get no noise.

    Args:
        unroll: trains inner runs; its back end must take a theta for each run.
        meta_loss: of their losses.
        truncation: number of inner steps per estimate.
        sigma: standard deviation of the noise each time it is drawn.
        standardize: measure differences between pairs in units of their own root mean square, so
            that each stack counts as much, whatever the scale and noise of its losses. The
            estimates of a stack have the right direction, not the right size.

    Raises:
        MetaTrainError: if sigma is not above 0.
    """

    copies = 2

    def __init__(
        self,
        unroll: Unroll,
        meta_loss: MetaLoss,
        truncation: int,
        sigma: float = 0.01,
        *,
        standardize: bool = False,
    ) -> None:
        super().__init__(unroll, meta_loss, truncation)
        if not sigma > 0:
            raise MetaTrainError(
                f"nothing can be learned from noise with sigma={sigma}.\n  Use sigma > 0."
            )
        self.sigma, self.standardize = sigma, standardize

    @abstractmethod
    def _kept(self, runs: Runs, noise: Tensors) -> Particles:
        """Where the next truncation starts, and the noise that has led there."""

    def _estimate(self, particles: Particles) -> tuple[Tensors, Tensor, Particles]:
        return finished(self._estimating(particles))

    @torch.no_grad()
    def _estimating(self, particles: Particles) -> Work[tuple[Tensors, Tensor, Particles]]:
        theta, noise, kept = self._perturbed(particles)
        advancing = self.unroll.advancing(particles.runs, self.truncation, theta)
        runs, losses = yield from advancing
        meta_losses = self.meta_loss(losses, runs.unit)
        return self._slope(noise, meta_losses), meta_losses, self._kept(runs, kept)

    def _perturbed(self, particles: Particles) -> tuple[Tensors, Tensors, Tensors]:
        """Theta of all runs in a truncation, all noise that tells pairs apart, and what is kept."""
        drawn = self._drawn(particles)
        noise = self._since(particles.noise, drawn)
        return self._to_either_side(drawn), noise, noise

    def _slope(self, noise: Tensors, losses: Tensor) -> Tensors:
        """Estimate of the meta-gradient; see :func:`slope`."""
        if self.standardize:
            first, second = losses.chunk(2)
            gaps = torch.nan_to_num(first - second, 0.0, 0.0, 0.0)
            losses = losses / gaps.square().mean().sqrt().clamp(min=1e-12)
        return slope(noise, losses, self.sigma)

    def _to_either_side(self, noise: Tensors) -> Tensors:
        """Theta of the first runs of all pairs, then of the second."""
        return {
            name: torch.cat([weight + noise[name], weight - noise[name]])
            for name, weight in self.unroll.rule.named_parameters()
        }

    def _drawn(self, particles: Particles) -> Tensors:
        """The noise on theta in a truncation, by default drawn anew."""
        return self._draw(particles.runs)

    def _since(self, before: Tensors, drawn: Tensors) -> Tensors:
        """The noise of all truncations that tells pairs apart."""
        return {**before, **{name: before.get(name, 0.0) + new for name, new in drawn.items()}}

    def _draw(self, runs: Runs) -> Tensors:
        problems = len(runs) // self.copies
        noise = {}
        for name, weight in self.unroll.rule.named_parameters():
            shape = (problems, *weight.shape)
            if weight.requires_grad:
                drawn = torch.randn(shape, generator=runs.generator, dtype=weight.dtype)
                noise[name] = self.sigma * drawn.to(weight.device)
            else:
                noise[name] = weight.new_zeros(shape)
        return noise


def slope(noise: Mapping[str, Tensor], losses: Tensor, sigma: float) -> Tensors:
    """Estimate the derivative of the mean loss over the problems from differences.

    Args:
        noise: what tells the two runs of each pair apart, with a leading dimension `problems`.
        losses: (2 * problems,). A pair whose difference is not finite counts as one without any.
        sigma: standard deviation of the noise each time it is drawn.
    """
    plus, minus = losses.chunk(2)
    difference = plus - minus
    weights = torch.where(torch.isfinite(difference), difference, 0.0) / (2 * sigma**2)
    return {
        name: torch.tensordot(weights.to(drawn), drawn, dims=1) / len(plus)
        for name, drawn in noise.items()
    }
