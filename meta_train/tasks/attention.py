"""Layers of transformers."""

import math

import torch
from torch import Tensor, nn

from meta_train.errors import MetaTrainError
from meta_train.tasks.model_parts import perceptron


class Attention(nn.Module):
    """Self-attention, written out: torch's fused kernels have no second derivative.

    Args:
        width: of inputs and outputs.
        heads: divides `width`.
        causal: whether each position sees only itself and those before it.

    Raises:
        MetaTrainError: if the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        if width % heads:
            raise MetaTrainError(
                f"attention of width {width} cannot have {heads} heads.\n"
                "  Choose numbers of heads that divide each width."
            )
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, width) to the same shape."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, -1)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if self.causal:
            future = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(future, -math.inf)
        mixed: Tensor = self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return mixed


class Layer(nn.Module):
    """Attention and a perceptron, each normalised first and added to its input.

    Args:
        width: of inputs and outputs.
        heads: of the attention.
        act: activation of the perceptron, whose hidden layer is four times as wide.
        causal: whether each position sees only itself and those before it.
    """

    def __init__(self, width: int, heads: int, act: str, causal: bool) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads, causal))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), *perceptron([width, 4 * width, width], act)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, width) to the same shape."""
        x = x + self.attention(x)
        result: Tensor = x + self.perceptron(x)
        return result
