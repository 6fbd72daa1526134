"""Tell how well a network does on test data by its weights alone, without any data.

    python examples/05_predict_generalisation.py --out pictures

Convolutional networks of varied architectures learn digits, each with hyper-parameters of its own.
Some networks are then read by others, which learn to order them by their accuracy. Hyper-parameters
alone order them too, so they stand beside what is read. (With 200 networks or more it gets better.)
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import trange

from meta_train.reading.blind import by_hyperparameters
from meta_train.reading.readers import Reader, encoder_of
from meta_train.reading.scores import TAU
from meta_train.reading.targets import target_of
from meta_train.zoo.cnn import CnnOptions, run_cnn
from meta_train.zoo.store import Zoo

READERS = {
    "statistics": "statistics of tensors",
    "one_pass": "one pass through the graph",
    "probes": "learned inputs",
}
MADE = {"data": "digits", "size": 8, "architectures": 4, "shortest": 20}
BATCH = 32


def train(name: str, zoo: Zoo, steps: int) -> nn.Module:
    """Train a network that reads networks to tell their accuracy."""
    training, accuracy = zoo.split("train"), zoo.columns["accuracy"].float()
    model = Reader(encoder_of(name, zoo.networks(training), seed=0), outputs=1)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in (bar := trange(steps, desc=READERS[name])):
        index = training[torch.randint(len(training), (BATCH,))]
        told = model(zoo.networks(index)).squeeze(1)
        loss = binary_cross_entropy_with_logits(told, accuracy[index])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return model.eval()


def draw(true: Tensor, told: dict[str, Tensor]) -> Figure:
    """Draw told against true accuracies."""
    figure = Figure((3.2 * len(told), 3.4), layout="constrained")
    for panel, (name, values) in zip(figure.subplots(1, len(told)), told.items(), strict=True):
        panel.plot(true.numpy(), values.numpy(), ".")
        panel.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        panel.set_title(f"{name}\nKendall tau {TAU.of(values, true):.2f}", fontsize=9)
        panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="accuracy", ylabel="told")
    return figure


def main() -> None:
    """Train the networks, train what reads them, print how well it orders, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=80, help="each gives three snapshots")
    parser.add_argument("--training", type=int, default=300, help="longest training, in steps")
    parser.add_argument("--steps", type=int, default=200, help="of each reader")
    parser.add_argument("--out", type=Path, default=Path("runs/cnns"), help="folder of the picture")
    options = parser.parse_args()
    torch.manual_seed(0)
    made = {**MADE, "networks": options.networks, "longest": options.training}
    folder = options.out / f"zoo-{options.networks}-{options.training}"
    zoo = run_cnn(CnnOptions(folder, **made))
    test, target = zoo.split("test"), target_of(zoo, "accuracy")
    true, told = target.values[test], {}
    told["hyper-parameters alone"] = by_hyperparameters(zoo, target, seed=0)[test]
    for name, words in READERS.items():
        model = train(name, zoo, options.steps)
        with torch.no_grad():
            told[words] = model(zoo.networks(test)).squeeze(1).sigmoid()
    print(
        "Kendall's tau between what is told and the true accuracy, on networks of other trainings"
    )
    for name, values in told.items():
        print(f"{name:40} {TAU.of(values, true):.3f}")
    draw(true, told).savefig(options.out / "predict_generalisation.png", dpi=120)


if __name__ == "__main__":
    main()
