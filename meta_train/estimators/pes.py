"""Persistent evolution strategies."""

from meta_train.estimators.antithetic import Antithetic
from meta_train.estimators.estimator import Particles
from meta_train.tasks.task import Tensors
from meta_train.unroll.runs import Runs


class PES(Antithetic):
    r"""Evolution strategies that remember: unbiased over whole unrolls, with short truncations.

    Both runs of a pair go their own ways from one truncation to the next, and what tells them apart
    is all the noise so far. So the estimate is the mean over problems of :math:`\xi (L_+ - L_-) /
    2 \sigma^2`, where :math:`\xi` is the sum of the noise of all truncations since the runs
    started. Summed over the truncations of an unroll, its mean is the derivative of the sum of
    their (smoothed) meta-losses, with all that theta did in earlier truncations; its variance grows
    with their number. Arguments and errors are those of
    :class:`~meta_train.estimators.antithetic.Antithetic`.

    Source: Vicol et al., "Unbiased Gradient Estimation in Unrolled Computation Graphs with
    Persistent Evolution Strategies", ICML 2021.
    """

    def _kept(self, runs: Runs, noise: Tensors) -> Particles:
        return Particles(runs, noise)
