"""The character GPT with a mixture of experts in every second block."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.char_gpt import (
    GPT,
    HEADS,
    LAYERS,
    LENGTH,
    WIDTH,
    CharGPT,
    Perceptron,
)
from benchmarks.workloads.texts import Characters
from benchmarks.workloads.workload import Recipe, Workload, cosine

EXPERTS, CHOSEN, HIDDEN, BALANCE, STEPS = 8, 2, 2 * WIDTH, 0.01, 1000


class Experts(nn.Module):
    """Perceptrons of which each token goes through the two that a router chooses.

    An expert that no token goes to in a step has no gradient in it.

    Args:
        width: of the residual stream.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, EXPERTS, bias=False)
        self.experts = nn.ModuleList(Perceptron(width, HIDDEN) for _ in range(EXPERTS))
        self.unbalance = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        """From (..., width) to the same; leaves in `unbalance` how uneven the choice was."""
        tokens = x.flatten(0, -2)
        chances = self.router(tokens).softmax(1)
        weights, chosen = chances.topk(CHOSEN, 1)
        weights = weights / weights.sum(1, keepdim=True)
        result = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            rows, places = (chosen == number).nonzero(as_tuple=True)
            if len(rows):
                output = weights[rows, places].unsqueeze(1) * expert(tokens[rows])
                result = result.index_add(0, rows, output)
        # 1 for an even choice (W. Fedus et al., Switch Transformers, 2021, equation 4).
        shares = F.one_hot(chosen, EXPERTS).float().mean((0, 1))
        self.unbalance = EXPERTS * (shares * chances.mean(0)).sum()
        return result.view_as(x)


def with_experts(model: GPT) -> GPT:
    """Replace the perceptron in every second block."""
    for block in model.blocks[1::2]:
        experts = Experts(WIDTH)
        for parameter in experts.parameters():
            nn.init.normal_(parameter, std=0.02)
        block.perceptron = experts
    return model


class ExpertGPT(CharGPT):
    """Training of the GPT with experts.

    Args:
        seed: of weights and batches.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        vocabulary = len(Characters.shakespeare().vocabulary)
        model = with_experts(GPT(vocabulary, LENGTH, LAYERS, HEADS, WIDTH))
        schedule = cosine(STEPS, warmup=100, final=0.1)
        options = {"betas": (0.9, 0.99)}
        recipe = Recipe(torch.optim.AdamW, 1e-3, options, decayed=0.1, schedule=schedule)
        super().__init__(seed, model, recipe)

    def loss(self) -> Tensor:
        """Cross-entropy of the next characters, plus a little for each unevenly used router."""
        entropy = super().loss()
        routed = [block.perceptron.unbalance for block in self.model.blocks[1::2]]
        return entropy + BALANCE * torch.stack(routed).sum()


WORKLOAD = Workload(
    name="experts",
    title="mixture of experts, Shakespeare's characters",
    build=ExpertGPT,
    steps=STEPS,
    every=50,
    metric="validation loss",
    source="nanoGPT's recipe for `char_gpt`; two of eight experts and the loss for their balance "
    "as in W. Fedus et al., Switch Transformers, 2021",
)
