"""The features and the step of the paper of neural graphs and of those before it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ngopt.features.bundle_features import STRUCTURE
from ngopt.features.moments import compute_dtype
from ngopt.features.numbers import constant
from ngopt.features.scale import LOG_SIGN, log_sign
from ngopt.rules.graph_inputs import BundleInputs
from ngopt.rules.recipe import Recipe

DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)
"""Of the momenta."""


class PaperRecipe(Recipe):
    r"""Weight, gradient and five momenta in; :math:`u = a \exp(\lambda b)` out.

    Features are logarithm and sign of each number. The paper's step is
    :math:`w + 0.01\, a \exp(0.01\, b)`: the first 0.01 is the optimizer's `lr` here, and the sign
    is left to the network. A fresh rule takes random steps.

    Args:
        generator: draws nothing.
        magnitude: how much the second output counts, :math:`\lambda`.
        p: of :func:`~ngopt.features.scale.log_sign`.

    Source: Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations of
    Neural Networks", ICLR 2024; features by Andrychowicz et al., NeurIPS 2016; step by Metz et al.,
    "Understanding and correcting pathologies in the training of learned optimizers", ICML 2019.
    """

    channels: ClassVar[int] = LOG_SIGN * (2 + len(DECAYS))
    context: ClassVar[int] = STRUCTURE
    outputs: ClassVar[int] = 2
    zero_outputs: ClassVar[bool] = False

    def __init__(
        self, generator: torch.Generator, *, magnitude: float = 0.01, p: float = 10.0
    ) -> None:
        super().__init__()
        self.magnitude, self.p = float(magnitude), float(p)

    @property
    def config(self) -> dict[str, Any]:
        """Name and options, as plain data."""
        return {"name": "paper", "magnitude": self.magnitude, "p": self.p}

    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Zero momenta, and a count of steps."""
        step = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return {"step": step, **init_momenta(parameter)}

    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Update the momenta; the signals are weight, gradient and momenta."""
        dtype = compute_dtype(parameter)
        momenta = update_momenta(state, gradient.to(dtype))
        signals = (parameter.to(dtype), gradient.to(dtype), *momenta.values())
        return {"step": state["step"] + 1, **momenta}, signals

    def features(self, inputs: BundleInputs) -> Tensor:
        """Logarithm and sign of each signal."""
        return torch.cat([log_sign(signal, self.p) for signal in inputs.signals], -1)

    def contexts(
        self, bundles: Sequence[BundleInputs], structures: Sequence[Sequence[float]]
    ) -> Tensor:
        """What the graph determines, and nothing else."""
        return constant(structures, bundles[0].signals[0])

    def update(self, inputs: BundleInputs, outputs: Tensor, context: Tensor) -> Tensor:
        """Direction times the exponential of the magnitude."""
        direction, size = outputs.unbind(-1)
        return direction * torch.exp(self.magnitude * size)


def init_momenta(parameter: Tensor) -> dict[str, Tensor]:
    """Zero momenta, shaped like the parameter, by names `momentum0` to `momentum4`."""
    zeros = torch.zeros_like(parameter, dtype=compute_dtype(parameter), requires_grad=False)
    return {f"momentum{number}": zeros.clone() for number in range(len(DECAYS))}


def update_momenta(state: Mapping[str, Tensor], gradient: Tensor) -> dict[str, Tensor]:
    r"""Take one gradient in: :math:`m \leftarrow \beta m + g`, without bias correction.

    Args:
        state: what :func:`init_momenta` or the last call returned; left as it is.
        gradient: of the parameter's shape.
    """
    return {
        f"momentum{number}": torch.add(gradient, state[f"momentum{number}"], alpha=decay)
        for number, decay in enumerate(DECAYS)
    }
