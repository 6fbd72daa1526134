"""Transformers with mixtures of experts that predict the next character."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meta_train.data.text import text
from meta_train.errors import MetaTrainError
from meta_train.tasks.attention import Layer
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import next_character, perceptron
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.transformer_lm import Embedding


class Mixture(nn.Module):
    """A router, and perceptrons of which each token is given the best few.

    All experts see all tokens, so that shapes do not depend on the router; what was not chosen is
    multiplied by 0, and gets no gradient. There is no auxiliary loss that spreads tokens evenly.

    Args:
        width: of inputs and outputs.
        hidden: width of the hidden layer of each expert.
        experts: how many.
        top: how many of them each token is given. The gate of a single one is its probability
            among all experts, those of several add up to 1.
        act: activation of the experts.

    Raises:
        MetaTrainError: if there are fewer experts than that.
    """

    def __init__(self, width: int, hidden: int, experts: int, top: int, act: str) -> None:
        super().__init__()
        if not 1 <= top <= experts:
            raise MetaTrainError(
                f"a token cannot be given the best {top} of {experts} expert(s).\n"
                "  Choose top from 1 to the number of experts."
            )
        self.top = top
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(*perceptron([width, hidden, width], act)) for _ in range(experts)
        )

    def gates(self, x: Tensor) -> Tensor:
        """Share of each expert in the outputs of tokens (..., width): (..., experts)."""
        shares = self.router(x).softmax(-1)
        least = shares.topk(self.top, -1).values[..., -1:]
        kept = torch.where(shares >= least, shares, 0.0)
        return kept if self.top == 1 else kept / kept.sum(-1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (..., width) to the same shape."""
        outputs = torch.stack([expert(x) for expert in self.experts], -1)
        return (outputs * self.gates(x).unsqueeze(-2)).sum(-1)


class MixtureLayer(Layer):
    """A layer of a transformer with a mixture of experts in place of its perceptron.

    Args:
        width: of the residual stream.
        heads: of the attention.
        hidden: width of the hidden layer of each expert.
        experts: how many.
        top: how many of them each token is given.
        act: activation of the experts.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, experts: int, top: int, act: str
    ) -> None:
        super().__init__(width, heads, act, causal=True)
        mixture = Mixture(width, hidden, experts, top, act)
        self.perceptron = nn.Sequential(nn.LayerNorm(width), mixture)


@register("moe")
@dataclass(frozen=True)
class MoE(Family):
    """Causal transformers over characters whose perceptrons are mixtures of experts.

    Args:
        data: texts.
        length: of the windows, in characters.
        width: of the residual stream.
        depth: number of layers.
        heads: divides the width.
        experts: in each layer.
        top: how many of them each token is given.
        hidden: width of the hidden layer of each expert.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: windows per step.

    Source: Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated
    Mixture-of-Experts Layer", ICLR 2017; Fedus et al., "Switch Transformers", JMLR 2022, for a
    single expert.
    """

    data: tuple[str, ...] = ("descriptions",)
    length: tuple[int, ...] = (16,)
    width: tuple[int, ...] = (16, 32)
    depth: tuple[int, ...] = (1, 2)
    heads: tuple[int, ...] = (2, 4)
    experts: tuple[int, ...] = (4,)
    top: tuple[int, ...] = (1, 2)
    hidden: tuple[int, ...] = (32,)
    activation: tuple[str, ...] = ("gelu",)
    batch: tuple[int, ...] = (16,)

    def task(
        self,
        data: str,
        length: int,
        width: int,
        depth: int,
        heads: int,
        experts: int,
        top: int,
        hidden: int,
        activation: str,
        batch: int,
    ) -> ModelTask:
        """Build the task of one choice of each field.

        Raises:
            MetaTrainError: if the heads do not divide the width, or there are too few experts.
        """
        dataset = text(data, length)

        def layer() -> nn.Module:
            return MixtureLayer(width, heads, hidden, experts, top, activation)

        def build() -> nn.Module:
            return nn.Sequential(
                Embedding(dataset.classes, length, width),
                *(layer() for _ in range(depth)),
                nn.LayerNorm(width),
                nn.Linear(width, dataset.classes),
            )

        return ModelTask(build, dataset, next_character, batch)
