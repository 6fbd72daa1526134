"""Evolution strategies, one truncation at a time."""

from dataclasses import replace

from meta_train.estimators.antithetic import Antithetic
from meta_train.estimators.estimator import Particles
from meta_train.tasks.task import Tensors
from meta_train.unroll.runs import Runs, mapped, repeated


class ES(Antithetic):
    r"""Compares runs with theta perturbed to either side, from the same start, on the same batches.

    The mean over problems of :math:`\epsilon (L(\theta + \epsilon) - L(\theta - \epsilon)) /
    2 \sigma^2`, with noise :math:`\epsilon` drawn anew in each truncation. It sees the meta-loss
    smoothed by the noise, where that of a long unroll is too rough for backpropagation. Blind, as
    truncated backpropagation, to how theta led to where a truncation starts. Arguments and errors
    are those of :class:`~meta_train.estimators.antithetic.Antithetic`.

    Both runs of a pair go on from where the first is. Its noise is as likely to be on either side,
    so neither is better to go on from, and to choose by the loss would show theta only the lucky.

    Source: Metz et al., "Understanding and correcting pathologies in the training of learned
    optimizers", ICML 2019.
    """

    def _kept(self, runs: Runs, noise: Tensors) -> Particles:
        first = mapped(lambda tensor: repeated(tensor.chunk(2)[0], 2), runs.tensors())
        # A pair is started anew if either run has diverged.
        return Particles(replace(runs.with_tensors(first), diverged=runs.diverged), {})
