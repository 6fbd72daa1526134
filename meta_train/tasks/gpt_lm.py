"""Small transformers that predict the next character, set up as GPT-2 is."""

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from meta_train.tasks.attention import Layer
from meta_train.tasks.family import register
from meta_train.tasks.transformer_lm import Embedding, TransformerLM

SPREAD = 0.02
"""Standard deviation of all initial matrices and embeddings, whatever their size."""


class GPT(nn.Module):
    """A transformer whose embeddings of characters also make its logits.

    Args:
        characters: size of the alphabet.
        length: of the sequences.
        width: of the residual stream.
        depth: number of layers.
        heads: divides the width.
        activation: of the perceptrons.
    """

    def __init__(
        self, characters: int, length: int, width: int, depth: int, heads: int, activation: str
    ) -> None:
        super().__init__()
        self.embedding = Embedding(characters, length, width)
        self.layers = nn.Sequential(
            *(Layer(width, heads, activation, causal=True) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            # Sums of the outputs of all layers keep their size.
            added = name.endswith(("out.weight", "perceptron.3.weight"))
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=SPREAD / math.sqrt(2 * depth) if added else SPREAD)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (batch, length) int64 to logits (batch, length, characters)."""
        hidden = self.norm(self.layers(self.embedding(tokens)))
        return F.linear(hidden, self.embedding.characters.weight)


@register("gpt_lm")
@dataclass(frozen=True)
class GPTLM(TransformerLM):
    """Causal transformers over characters with GPT-2's small initial weights and tied embeddings.

    They begin far from where PyTorch's own initial weights do, and a tied table of embeddings is
    the last layer, too. Fields as of :class:`~meta_train.tasks.transformer_lm.TransformerLM`.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    """

    def model(
        self, characters: int, length: int, width: int, depth: int, heads: int, activation: str
    ) -> nn.Module:
        """Build a model of one choice of each field."""
        return GPT(characters, length, width, depth, heads, activation)
