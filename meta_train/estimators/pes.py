"""Persistent evolution strategies."""

import math

from meta_train.estimators.antithetic import Antithetic
from meta_train.estimators.estimator import Particles
from meta_train.meta_loss import MetaLoss
from meta_train.tasks.task import Tensors
from meta_train.unroll.runs import Runs
from meta_train.unroll.unroll import Unroll

NOW = "now."
"""What the names of noise begin with that is on theta now; the rest is the sum of earlier noise."""


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
        standardize: see :class:`~meta_train.estimators.antithetic.Antithetic`.
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
        now, past = now_and_past(particles.noise)
        if not now or self._begins(particles.runs.made):
            past, now = self._since(past, now), self._draw(particles.runs)
        return self._to_either_side(now), self._since(past, now), together(now, past)

    def _begins(self, made: int) -> bool:
        """Whether new noise is drawn after so many inner steps."""
        if not self.segment:
            return True
        return self._segment(made) > self._segment(made - self.truncation)

    def _segment(self, made: int) -> int:
        """Number of the segment in which a step is."""
        return int(math.log2(1 + max(0, made) / self.segment))

    def _kept(self, runs: Runs, noise: Tensors) -> Particles:
        return Particles(runs, noise)


def now_and_past(noise: Tensors) -> tuple[Tensors, Tensors]:
    """Take apart what :func:`together` put together."""
    now = {name.removeprefix(NOW): t for name, t in noise.items() if name.startswith(NOW)}
    return now, {name: t for name, t in noise.items() if not name.startswith(NOW)}


def together(now: Tensors, past: Tensors) -> Tensors:
    """Noise that is on theta now, and the sum of what was before, under names of their own."""
    return {**past, **{NOW + name: tensor for name, tensor in now.items()}}
