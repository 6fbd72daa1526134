"""What ngopt sees of a model: the graph of its neurons, as text and as a picture.

    python examples/01_look_at_the_graph.py --out pictures

Blue boxes are hidden neurons: they can be permuted, in all the tensors that share them, without
changing what the model computes (`verify=True` tries it). Grey boxes are inputs and outputs.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import ngopt


class ResidualConvNet(nn.Module):
    """A stem, two residual blocks (the second halves the picture and doubles the width), a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.block1 = nn.Sequential(
            nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 16, 1)
        )
        self.block2 = nn.Sequential(
            nn.Conv2d(16, 24, 3, 2, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 32, 1)
        )
        self.shortcut = nn.Conv2d(16, 32, 1, stride=2)
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """From images (batch, 3, height, width) to logits (batch, 10)."""
        x = self.stem(images).relu()
        x = (x + self.block1(x)).relu()
        x = (self.shortcut(x) + self.block2(x)).relu()
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """A language model with one of torch's own transformer layers."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 32)
        self.places = nn.Parameter(torch.randn(12, 32) / 10)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, norm_first=True, batch_first=True)
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        """From tokens (batch, 12) to logits (batch, 12, 50)."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = self.layer(self.tokens(tokens) + self.places, mask, is_causal=True)
        return self.head(self.norm(x))


def main() -> None:
    """Trace both models, print what was found, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the pictures")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    examples = {
        "residual_convnet": (ResidualConvNet(), torch.randn(4, 3, 8, 8)),
        "transformer": (Transformer(), torch.randint(50, (2, 12))),
    }
    for name, (model, inputs) in examples.items():
        graph = ngopt.trace(model, inputs, verify=True)
        path = folder / f"{name}.png"
        graph.draw().figure.savefig(path)
        print(f"{name}, drawn in {path}\n\n{graph.summary()}\n")


if __name__ == "__main__":
    main()
