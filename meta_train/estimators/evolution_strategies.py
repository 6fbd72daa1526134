"""Evolution strategies: compare pairs of runs whose theta is perturbed to either side."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.estimators.estimator import Estimator, Particles, per_problem
from meta_train.interleave import Work, finished
from meta_train.meta_loss import MetaLoss
from meta_train.tasks.task import Tensors
from meta_train.unroll.runs import Runs, mapped, repeated
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
        return {name: before.get(name, 0.0) + new for name, new in drawn.items()}

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


class ES(Antithetic):
    r"""Compares runs with theta perturbed to either side, from the same start, on the same batches.

    The mean over problems of :math:`\epsilon (L(\theta + \epsilon) - L(\theta - \epsilon)) /
    2 \sigma^2`, with noise :math:`\epsilon` drawn anew in each truncation. It sees the meta-loss
    smoothed by the noise, where that of a long unroll is too rough for backpropagation. Blind, as
    truncated backpropagation, to how theta led to where a truncation starts. Arguments and errors
    are those of :class:`Antithetic`.

    Both runs of a pair go on from where the first is. Its noise is as likely to be on either side,
    so neither is better to go on from, and to choose by the loss would show theta only the lucky.

    Source: Metz et al., "Understanding and correcting pathologies in the training of learned
    optimizers", ICML 2019.
    """

    def _kept(self, runs: Runs, noise: Tensors) -> Particles:
        first = mapped(lambda tensor: repeated(tensor.chunk(2)[0], 2), runs.tensors())
        # A pair is started anew if either run has diverged.
        return Particles(replace(runs.with_tensors(first), diverged=runs.diverged), {})


NOW = "now."
"""Prefix of the noise that is on theta now; noise without it is the sum of all before."""


class PES(Antithetic):
    r"""Evolution strategies that remember: unbiased over whole unrolls, with short truncations.

    Both runs of a pair go their own ways from one truncation to the next, and what tells them apart
    is all the noise so far. So the estimate is the mean over problems of :math:`\xi (L_+ - L_-) /
    2 \sigma^2`, where :math:`\xi` is the sum of all noise that was drawn since the runs started.
    Summed over the truncations of an unroll, its mean is the derivative of the sum of their
    (smoothed) meta-losses, with all that theta did in earlier truncations; its variance grows with
    the number of times that noise was drawn. What a rule does depends on time in orders of
    magnitude, so noise can stay for longer and longer (`segment`).

    Args:
        unroll: trains inner runs; its back end must take a theta for each run.
        meta_loss: of their losses.
        truncation: number of inner steps per estimate.
        sigma: standard deviation of the noise each time it is drawn.
        standardize: see :class:`Antithetic`.
        segment: number of inner steps for which the first noise stays; the next stays twice as
            long, and so on. 0 for noise that is drawn anew in each truncation.

    Raises:
        MetaTrainError: if sigma is not above 0.

    Source: Vicol et al., "Unbiased Gradient Estimation in Unrolled Computation Graphs with
    Persistent Evolution Strategies", ICML 2021.
    """

    def __init__(
        self,
        unroll: Unroll,
        meta_loss: MetaLoss,
        truncation: int,
        sigma: float = 0.01,
        *,
        standardize: bool = False,
        segment: int = 0,
    ) -> None:
        super().__init__(unroll, meta_loss, truncation, sigma, standardize=standardize)
        self.segment = segment

    def _perturbed(self, particles: Particles) -> tuple[Tensors, Tensors, Tensors]:
        now, past = split_noise(particles.noise)
        if not now or self._begins(particles.runs.made):
            past = self._since(past, now) if now else past
            now = self._draw(particles.runs)
        return self._to_either_side(now), self._since(past, now), merge_noise(now, past)

    def _begins(self, made: int) -> bool:
        """Whether a segment, and with it new noise, begins after so many inner steps."""
        if not self.segment:
            return True
        return self._segment(made) > self._segment(made - self.truncation)

    def _segment(self, made: int) -> int:
        """Number of the segment in which a step is."""
        return int(math.log2(1 + max(0, made) / self.segment))

    def _kept(self, runs: Runs, noise: Tensors) -> Particles:
        return Particles(runs, noise)


def split_noise(noise: Tensors) -> tuple[Tensors, Tensors]:
    """Inverse of :func:`merge_noise`."""
    now = {name.removeprefix(NOW): t for name, t in noise.items() if name.startswith(NOW)}
    return now, {name: t for name, t in noise.items() if not name.startswith(NOW)}


def merge_noise(now: Tensors, past: Tensors) -> Tensors:
    """One dict of the noise that is on theta now and of the sum of all before; see :data:`NOW`."""
    return {**past, **{NOW + name: tensor for name, tensor in now.items()}}


class NRES(Antithetic):
    r"""Evolution strategies that keep their noise: unbiased over whole unrolls.

    Noise is drawn once for a pair of runs, when they start, and theta keeps it in all truncations.
    The estimate is the mean over problems of :math:`\epsilon (L_+ - L_-) / 2 \sigma^2`. Summed
    over the truncations of an unroll, its mean is the derivative of the sum of their (smoothed)
    meta-losses, as that of :class:`PES`. There, noise adds up from
    truncation to truncation; here, what truncations say against one another cancels out.
    Arguments and errors are those of :class:`Antithetic`.

    Source: Li et al., "Noise-Reuse in Online Evolution Strategies", NeurIPS 2023.
    """

    def _drawn(self, particles: Particles) -> Tensors:
        return particles.noise or self._draw(particles.runs)

    def _since(self, before: Tensors, drawn: Tensors) -> Tensors:
        return drawn

    def _kept(self, runs: Runs, noise: Tensors) -> Particles:
        return Particles(runs, noise)

    def _renewed(self, noise: Tensors, which: Tensor, runs: Runs) -> Tensors:
        drawn = self._draw(runs)
        return {
            name: torch.where(per_problem(which, t), drawn[name], t) for name, t in noise.items()
        }
