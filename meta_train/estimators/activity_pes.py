"""Persistent evolution strategies that perturb what a rule puts out, not the weights behind it."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from meta_train.errors import MetaTrainError
from meta_train.estimators.estimator import Particles
from meta_train.estimators.pes import PES
from meta_train.meta_loss import MetaLoss
from meta_train.tasks.task import Tensors
from meta_train.unroll.runs import Runs
from meta_train.unroll.unroll import Unroll
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.rule import Rule, State

PERTURBATION = "perturbation"
"""Name of the rule's buffer that is added to its outputs for bundles."""


SEGMENT = 100
"""Number of inner steps for which the first noise on outputs stays; the next stays twice as long,
and so on."""


class ActivityPES(PES):
    r"""PES whose noise is on the few outputs of a rule for each bundle.

    A rule puts out a number or so for each bundle, by thousands of weights. Noise on the outputs
    says of each what it did to the loss; backpropagation says how the weights would have moved it.
    So in place of the noise on the weights stands

    .. math:: \frac{\sigma^2}{\sigma_o^2} \sum_o \epsilon_o \frac{\partial o}{\partial \theta}

    for outputs :math:`o` with noise :math:`\epsilon_o` of standard deviation :math:`\sigma_o`. The
    variance of the estimate grows with the number of outputs, not of weights. Weights that move no
    output (those of the network of entries) are perturbed themselves. Of weights that do both, only
    the way through the outputs counts.

    The variance of PES grows with the number of times that noise was drawn. What outputs do depends
    on time in orders of magnitude, so the first noise on them stays for :data:`SEGMENT` steps, and
    each other one twice as long as the one before. The derivative is that of the outputs as they
    are at the beginning of a truncation, and at the end of each segment for what has been.

    Args:
        unroll: trains inner runs.
        meta_loss: of their losses.
        truncation: number of inner steps per estimate.
        sigma: standard deviation of the noise on weights.
        sigma_outputs: standard deviation of the noise on outputs.
        standardize: measure differences between pairs in units of their own root mean square, so
            that each stack counts as much, whatever the scale and noise of its losses. The
            estimates of a stack have the right direction, not the right size.

    Raises:
        MetaTrainError: if a standard deviation is not above 0, or the rule has no such outputs.

    Source: Ren et al., "Scaling Forward Gradient With Local Losses", ICLR 2023, who perturb the
    activities of networks, and Vicol et al., ICML 2021, for PES.
    """

    def __init__(
        self,
        unroll: Unroll,
        meta_loss: MetaLoss,
        truncation: int,
        sigma: float = 0.01,
        sigma_outputs: float = 0.1,
        *,
        standardize: bool = False,
    ) -> None:
        super().__init__(unroll, meta_loss, truncation, sigma)
        if not sigma_outputs > 0:
            raise MetaTrainError(
                f"nothing can be learned from noise with sigma_outputs={sigma_outputs}.\n"
                "  Use sigma_outputs > 0."
            )
        if PERTURBATION not in dict(unroll.rule.named_buffers()):
            raise MetaTrainError(
                f"{type(unroll.rule).__name__} has no outputs for bundles that could be perturbed."
                "\n  Use MatrixGNN, or the estimator `pes`."
            )
        self.sigma_outputs, self.standardize = sigma_outputs, standardize

    def _perturbed(self, particles: Particles) -> tuple[Tensors, Tensors, Tensors]:
        runs = particles.runs
        with torch.enable_grad():
            weights = {
                name: weight.detach().expand(len(runs), *weight.shape).clone().requires_grad_()
                for name, weight in self.unroll.rule.named_parameters()
                if weight.requires_grad
            }
            outputs = self._outputs(runs, weights)
        before = dict(particles.noise)
        now = before.pop(PERTURBATION, None)
        if now is None or _begins(runs.made, self.truncation):
            if now is not None:
                before = self._since(before, self._pulled_back(now, outputs, weights))
            now = self._noise_on(outputs, runs)
        pulled = self._pulled_back(now, outputs, weights)
        drawn = self._draw(runs)
        behind = {name: torch.zeros_like(drawn[name]) for name in pulled}
        theta = self._to_either_side({**drawn, **behind})
        direct = {name: noise for name, noise in drawn.items() if name not in pulled}
        kept = self._since(before, direct)
        theta[PERTURBATION] = torch.cat([now, -now])
        noise = self._since(kept, pulled)
        ordered = {name: noise[name] for name in drawn}  # as theta is
        return theta, ordered, {**kept, PERTURBATION: now}

    def _noise_on(self, outputs: Tensor, runs: Runs) -> Tensor:
        """Noise on the outputs of each problem, `(problems, ...)`."""
        shape = len(runs) // self.copies, *outputs.shape[1:]
        drawn = torch.randn(shape, generator=runs.generator, dtype=outputs.dtype)
        return self.sigma_outputs * drawn.to(outputs.device)

    def _pulled_back(self, noise: Tensor, outputs: Tensor, weights: Tensors) -> Tensors:
        """What stands in place of noise on the weights behind outputs, the mean over a pair."""
        if not outputs.requires_grad:
            return {}
        both = torch.cat([noise, noise])
        found = torch.autograd.grad(
            outputs, list(weights.values()), both, retain_graph=True, allow_unused=True
        )
        ratio = (self.sigma / self.sigma_outputs) ** 2
        return {
            name: ratio * slope.reshape(self.copies, len(noise), *slope.shape[1:]).mean(0)
            for name, slope in zip(weights, found, strict=True)
            if slope is not None
        }

    def _slope(self, noise: Tensors, losses: Tensor) -> Tensors:
        if self.standardize:
            first, second = losses.chunk(2)
            gaps = torch.nan_to_num(first - second, 0.0, 0.0, 0.0)
            losses = losses / gaps.square().mean().sqrt().clamp(min=1e-12)
        return super()._slope(noise, losses)

    def _outputs(self, runs: Runs, theta: Tensors) -> Tensor:
        """What the rule puts out for each bundle, `(runs, bundles, outputs)`."""
        outputs: Tensor = functional_call(
            _Outputs(self.unroll.rule),
            {f"rule.{name}": weight for name, weight in theta.items()},
            (runs.parameters, runs.gradients, runs.state, runs.task.graph),
        )
        return outputs


def _begins(made: int, truncation: int) -> bool:
    """Whether a segment has begun in the truncation that is over."""
    return _segment(made) > _segment(made - truncation)


def _segment(made: int) -> int:
    """Number of the segment in which a step is."""
    return int(math.log2(1 + max(0, made) / SEGMENT))


class _Outputs(nn.Module):
    """The outputs of a rule as a module, so that theta can be swapped."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule

    def forward(
        self, parameters: Tensors, gradients: Tensors, state: State, graph: NeuralGraph
    ) -> Tensor:
        return self.rule.bundle_outputs(parameters, gradients, state, graph)
