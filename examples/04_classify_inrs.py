"""Tell which digit an image shows by the weights of the network that is the image.

    python examples/04_classify_inrs.py --out pictures

An image can be a network, from a point to its brightness. Here many of them are fitted from one
start, and the hidden neurons of each are put in an order of its own: no image changes, but the
place of a weight tells nothing any more. What reads the graph of the weights does not notice.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import trange

from meta_train.reading.readers import Reader, encoder_of
from meta_train.zoo.inr import InrOptions, run_inr
from meta_train.zoo.siren import render
from meta_train.zoo.store import Zoo

READERS = {
    "flat": "flat weights",
    "statistics": "statistics of tensors",
    "ng_gnn": "message passing on the graph",
    "one_pass": "one pass through the graph",
    "probes": "learned inputs, run through the network",
}


def train(name: str, zoo: Zoo, steps: int) -> nn.Module:
    """Train a network that reads networks, on batches of 64."""
    training, classes = zoo.split("train"), zoo.columns["class"]
    model = Reader(encoder_of(name, zoo.networks(training), seed=0), outputs=10)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in (bar := trange(steps, desc=READERS[name])):
        index = training[torch.randint(len(training), (64,))]
        loss = cross_entropy(model(zoo.networks(index)), classes[index])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return model.eval()


def draw(zoo: Zoo, accuracies: dict[str, float], guesses: Tensor) -> Figure:
    """Draw some networks as images, with what was read in them, and all accuracies."""
    figure = Figure((9, 4.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2))
    test = zoo.split("test")[:8]
    images = render(zoo.networks(test), zoo.examples["images"].shape[-1])
    for panel, image, guess in zip(above.subplots(1, 8), images, guesses.tolist(), strict=False):
        panel.imshow(image[0].numpy(), cmap="gray")
        panel.set_title(f"read: {guess}", fontsize=8)
        panel.set_axis_off()
    panel = below.subplots()
    panel.barh([READERS[name] for name in accuracies], accuracies.values())
    panel.axvline(0.1, color="black", linestyle="--", linewidth=1)
    panel.invert_yaxis()
    panel.set(xlim=(0, 1), xlabel="accuracy on networks of other images (dashed: chance)")
    return figure


def main() -> None:
    """Make the networks, train all readers, print accuracies and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="or mnist, fashion_mnist")
    parser.add_argument("--networks", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=600, help="of each reader")
    parser.add_argument("--out", type=Path, default=Path("runs/inrs"), help="folder of the picture")
    options = parser.parse_args()
    torch.manual_seed(0)
    made = {"data": options.data, "networks": options.networks, "start": "common", "width": 16}
    zoo = run_inr(InrOptions(options.out / f"zoo-{options.data}-{options.networks}", **made))
    test = zoo.split("test")
    classes, accuracies, guesses = zoo.columns["class"][test], {}, {}
    for name in READERS:
        model = train(name, zoo, options.steps)
        with torch.no_grad():
            guesses[name] = model(zoo.networks(test)).argmax(1)
        accuracies[name] = float((guesses[name] == classes).float().mean())
    for name, accuracy in accuracies.items():
        print(f"{READERS[name]:40} {accuracy:.1%}")
    best = max(accuracies, key=accuracies.get)
    draw(zoo, accuracies, guesses[best]).savefig(options.out / "classify_inrs.png", dpi=120)


if __name__ == "__main__":
    main()
