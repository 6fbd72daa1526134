"""Watch a training run in TensorBoard: what the optimizer does to each layer, and why.

    python examples/02_monitor.py --out runs
    tensorboard --logdir runs

The lines that a training loop needs for it are marked by `# monitor`.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from ngopt import Monitor, NeuralGraphOptimizer

GUIDE = """
Written to {folder}. Look at it with:  tensorboard --logdir {folder}

  Scalars     loss and accuracy; per layer the size of updates, of gradients and of weights, the
              factors the rule has chosen for its steps, and the angle to Adam's step
  Images      the graph; the states of the neurons; how far each entry's direction was corrected
  Histograms  the weights
  Text        the rule, its options, and the graph in words
"""


def main() -> None:
    """Train a small convnet on digits and write what happens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for TensorBoard")
    options = parser.parse_args()
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images / 16).float()[:, None]  # (1797, 1, 8, 8)
    labels = torch.tensor(digits.target)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    optimizer = NeuralGraphOptimizer(model)
    with Monitor(optimizer, options.out, every=10, angle_to_adam=True) as monitor:  # monitor
        for _ in range(options.steps):
            batch = torch.randint(len(labels), (128,))
            logits = model(images[batch])
            loss = cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            accuracy = (logits.argmax(1) == labels[batch]).float().mean()
            monitor.log(loss=loss, accuracy=accuracy)  # monitor
    print(f"After {options.steps} steps: loss {loss:.4f}, accuracy {accuracy:.1%}.")
    print(GUIDE.format(folder=options.out))


if __name__ == "__main__":
    main()
