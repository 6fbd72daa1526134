"""A small vision transformer on CIFAR-10."""

import torch
from torch import Tensor, nn

from benchmarks.workloads.classification import Classification, cifar10
from benchmarks.workloads.workload import Recipe, Workload, cosine

PATCH, WIDTH, BLOCKS, HEADS, BATCH, EPOCHS = 4, 64, 4, 4, 64, 2
STEPS = EPOCHS * (45_000 // BATCH)


class ViT(nn.Module):
    """Patches, learned positions, pre-norm blocks, and the mean over patches."""

    def __init__(self, size: int, patch: int, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
                )
                for _ in range(blocks)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """From images (n, 3, size, size) to logits (n, 10)."""
        hidden = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(hidden)).mean(1))


def build(seed: int) -> Classification:
    """A run from a seed."""
    torch.manual_seed(seed)
    recipe = Recipe(
        torch.optim.AdamW, lr=1e-3, decayed=0.05, schedule=cosine(STEPS, warmup=STEPS // 20)
    )
    return cifar10(ViT(32, PATCH, WIDTH, BLOCKS, HEADS), recipe, seed, BATCH)


WORKLOAD = Workload(
    name="vit",
    title="vision transformer, CIFAR-10",
    build=build,
    steps=STEPS,
    every=STEPS // 19,
    metric="test accuracy",
    higher=True,
    source="after DeiT, H. Touvron et al. (2021): weight decay, warm-up and cosine; "
    "learning rate after https://github.com/omihub777/ViT-CIFAR",
)
