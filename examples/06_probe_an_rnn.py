"""Tell which language a recurrent network speaks: by its weights, or by asking it.

    python examples/06_probe_an_rnn.py --out pictures

Each network has learned one language, a^n b^(n+m1) c^(n+m2) d^(n+m3), and the task is to tell m1 of
networks whose languages were never seen. One can look at the weights; or ask: run the network on
sequences that are learned, and read its answers. The next question may depend on the answers.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import trange

from meta_train.reading.readers import Reader, encoder_of
from meta_train.zoo.rnn import RnnOptions, run_rnn
from meta_train.zoo.store import Zoo

READERS = {
    "statistics": "statistics of weights",
    "flat": "all weights in a row",
    "fixed_probing": "the same questions for all",
    "interactive_probing": "questions that follow answers",
}
LETTERS = (*"abcd", "start", "end")
BATCH = 32


def train(name: str, zoo: Zoo, steps: int, classes: torch.Tensor) -> nn.Module:
    """Train a network that reads networks to tell a class."""
    training = zoo.split("train")
    encoder = encoder_of(name, zoo.networks(training), seed=0)
    model = Reader(encoder, outputs=int(classes.max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in (bar := trange(steps, desc=READERS[name])):
        index = training[torch.randint(len(training), (BATCH,))]
        loss = cross_entropy(model(zoo.networks(index)), classes[index])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return model.eval()


def draw(accuracies: dict[str, float], chance: float, questions: torch.Tensor) -> Figure:
    """Draw accuracies, and the first sequence that all networks are asked."""
    figure = Figure((9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.barh([READERS[name] for name in accuracies], accuracies.values())
    left.axvline(chance, color="black", linestyle="--", linewidth=1)
    left.invert_yaxis()
    left.set(xlim=(0, 1), xlabel="accuracy on unseen languages (dashed: the commonest class)")
    right.imshow(questions.T.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    right.set_yticks(range(len(LETTERS)), LETTERS)
    right.set(xlabel="time", title="a question: how much of each letter")
    return figure


def main() -> None:
    """Train the recurrent networks and what reads them, print accuracies, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=128, help="each gives two snapshots")
    parser.add_argument("--training", type=int, default=400, help="steps of each of them")
    parser.add_argument("--steps", type=int, default=300, help="of each reader")
    parser.add_argument("--out", type=Path, default=Path("runs/rnns"), help="folder of the picture")
    options = parser.parse_args()
    torch.manual_seed(0)
    kept = (options.training // 2, options.training)
    made = {"networks": options.networks, "steps": options.training, "snapshots": kept}
    folder = options.out / f"zoo-{options.networks}-{options.training}"
    zoo = run_rnn(RnnOptions(folder, validation=0.1, test=0.3, **made))
    surplus = zoo.columns["m1"].long()
    classes, test = surplus - surplus.min(), zoo.split("test")
    chance = float(classes[test].bincount().max() / len(test))
    accuracies, models = {}, {}
    for name in READERS:
        models[name] = train(name, zoo, options.steps, classes)
        with torch.no_grad():
            told = models[name](zoo.networks(test)).argmax(1)
        accuracies[name] = float((told == classes[test]).float().mean())
        print(f"{READERS[name]:32} {accuracies[name]:.1%}")
    questions = models["fixed_probing"].encoder.asked[0].detach().softmax(-1)
    draw(accuracies, chance, questions).savefig(options.out / "probe_an_rnn.png", dpi=120)


if __name__ == "__main__":
    main()
