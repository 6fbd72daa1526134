"""Persistent evolution strategies that perturb what a rule puts out, not the weights behind it."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from meta_train.errors import MetaTrainError
from meta_train.estimators.estimator import Particles
from meta_train.estimators.evolution_strategies import PES, merge_noise, split_noise
from meta_train.meta_loss import MetaLoss
from meta_train.tasks.task import Tensors
from meta_train.unroll.runs import Runs
from meta_train.unroll.unroll import Unroll
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.rule import Rule, State

PERTURBATION = "perturbation"
"""Name of the rule's buffer that is added to its outputs for bundles."""


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

    The derivative is that of the outputs as they are at the beginning of a truncation, and at the
    end of each segment for what has been.

    Args:
        unroll: trains inner runs.
        meta_loss: of their losses.
        truncation: number of inner steps per estimate.
        sigma: standard deviation of the noise on weights.
        sigma_outputs: standard deviation of the noise on outputs.
        standardize: see :class:`~meta_train.estimators.evolution_strategies.Antithetic`.
        segment: see :class:`~meta_train.estimators.evolution_strategies.PES`.

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
        segment: int = 100,
    ) -> None:
        super().__init__(
            unroll, meta_loss, truncation, sigma, standardize=standardize, segment=segment
        )
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
        self.sigma_outputs = sigma_outputs

    def _perturbed(self, particles: Particles) -> tuple[Tensors, Tensors, Tensors]:
        runs = particles.runs
        with torch.enable_grad():
            weights = {
                name: weight.detach().expand(len(runs), *weight.shape).clone().requires_grad_()
                for name, weight in self.unroll.rule.named_parameters()
                if weight.requires_grad
            }
            outputs = self._outputs(runs, weights)
        now, past = split_noise(particles.noise)
        if not now or self._begins(runs.made):
            if now:
                past = self._since(past, self._weight_noise(now, outputs, weights)[0])
            now = self._draw(runs) | {PERTURBATION: self._noise_on(outputs, runs)}
        noise, direct = self._weight_noise(now, outputs, weights)
        theta = self._to_either_side(direct)
        theta[PERTURBATION] = torch.cat([now[PERTURBATION], -now[PERTURBATION]])
        return theta, self._since(past, noise), merge_noise(now, past)

    def _weight_noise(
        self, now: Tensors, outputs: Tensor, weights: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Noise on weights: what differences are multiplied by, and what theta gets.

        They differ in the weights behind outputs: nothing is added to them, as the noise is on the
        outputs, and the estimate uses what was pulled back.
        """
        drawn = {name: noise for name, noise in now.items() if name != PERTURBATION}
        pulled = self._pulled_back(now[PERTURBATION], outputs, weights)
        behind = {name: torch.zeros_like(noise) for name, noise in pulled.items()}
        return drawn | pulled, drawn | behind

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

    def _outputs(self, runs: Runs, theta: Tensors) -> Tensor:
        """What the rule puts out for each bundle, `(runs, bundles, outputs)`."""
        outputs: Tensor = functional_call(
            _Outputs(self.unroll.rule),
            {f"rule.{name}": weight for name, weight in theta.items()},
            (runs.parameters, runs.gradients, runs.state, runs.task.graph),
        )
        return outputs


class _Outputs(nn.Module):
    """The outputs of a rule as a module, so that theta can be swapped."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule

    def forward(
        self, parameters: Tensors, gradients: Tensors, state: State, graph: NeuralGraph
    ) -> Tensor:
        return self.rule.bundle_outputs(parameters, gradients, state, graph)
