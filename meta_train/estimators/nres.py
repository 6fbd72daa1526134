"""Evolution strategies that reuse their noise."""

import torch
from torch import Tensor

from meta_train.estimators.antithetic import Antithetic
from meta_train.estimators.estimator import Particles, per_problem
from meta_train.tasks.task import Tensors
from meta_train.unroll.runs import Runs


class NRES(Antithetic):
    r"""Evolution strategies that keep their noise: unbiased over whole unrolls.

    Noise is drawn once for a pair of runs, when they start, and theta keeps it in all truncations.
    The estimate is the mean over problems of :math:`\epsilon (L_+ - L_-) / 2 \sigma^2`. Summed
    over the truncations of an unroll, its mean is the derivative of the sum of their (smoothed)
    meta-losses, as that of :class:`~meta_train.estimators.pes.PES`. There, noise adds up from
    truncation to truncation; here, what truncations say against one another cancels out.
    Arguments and errors are those of :class:`~meta_train.estimators.antithetic.Antithetic`.

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
