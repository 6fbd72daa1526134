"""Persistent evolution strategies that perturb what a rule puts out, not the weights behind it."""

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


class ActivityPES(PES):
    r"""PES whose noise is on the few outputs of a rule for each bundle.

    A rule puts out a number or so for each bundle, by thousands of weights. Noise on the outputs
    says of each what it did to the loss; backpropagation says, once in each truncation, how the
    weights would have moved it. So in place of the noise on the weights stands

    .. math:: \frac{\sigma^2}{\sigma_o^2} \sum_o \epsilon_o \frac{\partial o}{\partial \theta}

    for outputs :math:`o` with noise :math:`\epsilon_o` of standard deviation :math:`\sigma_o`. The
    variance of the estimate grows with the number of outputs, not of weights. Weights that move no
    output (those of the network of entries) are perturbed themselves. Of weights that do both, only
    the way through the outputs counts.

    The derivative is that of the outputs at the beginning of a truncation, which therefore should
    be short beside the time in which they change.

    Args:
        unroll: trains inner runs.
        meta_loss: of their losses.
        truncation: number of inner steps per estimate.
        sigma: standard deviation of the noise on weights.
        sigma_outputs: standard deviation of the noise on outputs.

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
        self.sigma_outputs = sigma_outputs

    def _perturbed(self, particles: Particles) -> tuple[Tensors, Tensors]:
        runs = particles.runs
        with torch.enable_grad():
            weights = {
                name: weight.detach().expand(len(runs), *weight.shape).clone().requires_grad_()
                for name, weight in self.unroll.rule.named_parameters()
                if weight.requires_grad
            }
            outputs = self._outputs(runs, weights)
            problems = len(runs) // self.copies
            shape = problems, *outputs.shape[1:]
            drawn = torch.randn(shape, generator=runs.generator, dtype=outputs.dtype)
            drawn = self.sigma_outputs * drawn.to(outputs.device)
            slopes = _slopes((outputs * torch.cat([drawn, drawn])).sum(), weights)
        noise = self._draw(runs)
        behind = {name: torch.zeros_like(noise[name]) for name in slopes}
        theta = self._to_either_side({**noise, **behind})
        ratio = (self.sigma / self.sigma_outputs) ** 2
        for name, slope in slopes.items():
            noise[name] = ratio * slope.reshape(self.copies, *noise[name].shape).mean(0)
        return {**theta, PERTURBATION: torch.cat([drawn, -drawn])}, noise

    def _outputs(self, runs: Runs, theta: Tensors) -> Tensor:
        """What the rule puts out for each bundle, `(runs, bundles)`."""
        outputs: Tensor = functional_call(
            _Outputs(self.unroll.rule),
            {f"rule.{name}": weight for name, weight in theta.items()},
            (runs.parameters, runs.gradients, runs.state, runs.task.graph),
        )
        return outputs


def _slopes(number: Tensor, weights: Tensors) -> Tensors:
    """Derivatives of a number with respect to the weights that it depends on."""
    if not number.requires_grad:
        return {}
    found = torch.autograd.grad(number, list(weights.values()), allow_unused=True)
    pairs = zip(weights, found, strict=True)
    return {name: slope for name, slope in pairs if slope is not None}


class _Outputs(nn.Module):
    """The outputs of a rule as a module, so that theta can be swapped."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule

    def forward(
        self, parameters: Tensors, gradients: Tensors, state: State, graph: NeuralGraph
    ) -> Tensor:
        return self.rule.bundle_outputs(parameters, gradients, state, graph)
