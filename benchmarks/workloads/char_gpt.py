"""A small GPT on the characters of Shakespeare, by the recipe that nanoGPT gives for CPUs."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.texts import Characters, next_character_loss
from benchmarks.workloads.workload import Recipe, Training, Workload, cosine

LAYERS, HEADS, WIDTH, LENGTH, BATCH, STEPS = 4, 4, 128, 64, 12, 2000


class Perceptron(nn.Module):
    """Two layers without biases.

    Args:
        width: of the residual stream.
        hidden: width between the layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """From (..., width) to the same."""
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """A pre-norm transformer block without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.norm_2 = nn.LayerNorm(width, bias=False)
        self.perceptron: nn.Module = Perceptron(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, length, width) to the same."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        heads = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(heads.transpose(1, 2).reshape(batch, length, width))
        return x + self.perceptron(self.norm_2(x))


class GPT(nn.Module):
    """Learned positions, pre-norm blocks, tied embedding, GPT-2's initial weights.

    Args:
        vocabulary: number of characters.
        length: largest number of characters in a row.
        layers: number of blocks.
        heads: of attention.
        width: of the residual stream.
    """

    def __init__(self, vocabulary: int, length: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                branch = name.endswith(("mix.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if branch else 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """From characters (batch, length) to logits (batch, length, vocabulary)."""
        places = torch.arange(x.shape[1], device=x.device)
        hidden = self.characters(x) + self.positions(places)
        for block in self.blocks:
            hidden = block(hidden)
        return F.linear(self.norm(hidden), self.characters.weight)


class CharGPT(Training):
    """Training of the GPT.

    Args:
        seed: of weights and batches.
        model: trained further instead of a fresh one.
        recipe: instead of nanoGPT's.
        text: instead of Shakespeare's.
    """

    def __init__(
        self,
        seed: int,
        model: GPT | None = None,
        recipe: Recipe | None = None,
        text: Characters | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.text = text or Characters.shakespeare()
        self.model = model or GPT(len(self.text.vocabulary), LENGTH, LAYERS, HEADS, WIDTH)
        recipe = recipe or Recipe(
            torch.optim.AdamW,
            lr=1e-3,
            options={"betas": (0.9, 0.99)},
            decayed=0.1,
            schedule=cosine(STEPS, warmup=100, final=0.1),
        )
        super().__init__([(self.model, recipe)], clip=1.0)
        self.generator = torch.Generator().manual_seed(seed)

    def loss(self) -> Tensor:
        """Cross-entropy of the next characters, in nats."""
        x, y = self.text.batch("train", BATCH, LENGTH, self.generator)
        return next_character_loss(self.model, x, y)

    def metric(self) -> float:
        """The same on 16 batches of the held-out tenth of the text."""
        generator = torch.Generator().manual_seed(0)
        total = 0.0
        with evaluating(self.model):
            for _ in range(16):
                x, y = self.text.batch("held_out", 4 * BATCH, LENGTH, generator)
                total += next_character_loss(self.model, x, y).item()
        return total / 16


WORKLOAD = Workload(
    name="char_gpt",
    title="character GPT, Shakespeare",
    build=CharGPT,
    steps=STEPS,
    every=100,
    metric="validation loss",
    source="nanoGPT's README, `i only have a macbook`: A. Karpathy, https://github.com/karpathy/nanoGPT",
)
