"""Golden trajectories: what the first steps with each rule that comes with ngopt must be.

`python -m tests.pretrained.golden` writes them anew. That is right after a rule has been replaced,
and wrong after a change of code that was not meant to change what rules do.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.library import fingerprint, list_rules, load_rule
from ngopt.rules.rule import Rule

FILE = Path(__file__).with_suffix(".json")
STEPS = 20
"""More than those in which a rule looks at the whole model each time."""

Trajectory = dict[str, list[float]]
"""After each step: the loss before it, and how far each parameter has come, by its name."""


def trajectory(rule: Rule, steps: int = STEPS) -> Trajectory:
    """Train a small net with a rule.

    In double precision and without random numbers, so that it is the same on any machine.
    """
    model, x = make_model(), wave(12, 1, 4, 4, frequency=1.7)
    labels = torch.arange(12) % 3
    optimizer = NeuralGraphOptimizer(model, rule=rule)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    found: Trajectory = {"loss": [], **{name: [] for name in start}}
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        found["loss"].append(loss.item())
        for name, p in model.named_parameters():
            found[name].append((p.detach() - start[name]).norm().item())
    return found


def make_model() -> nn.Module:
    """A convolution, a norm and linear layers; their weights are sines."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.LayerNorm(6),
        nn.Tanh(),
        nn.Linear(6, 3),
    ).double()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(0.5 * wave(*parameter.shape, frequency=1 + 0.1 * number))
        model[4].weight.add_(1)
    return model


def wave(*shape: int, frequency: float) -> Tensor:
    """Sines of the numbers of the entries, in double precision."""
    return torch.arange(1, 1 + torch.Size(shape).numel()).double().mul(frequency).sin().view(shape)


def main() -> None:
    """Write the trajectories of all rules that come with ngopt."""
    golden = {}
    for name in list_rules():
        rule = load_rule(name)
        # Nine digits are the same on any machine.
        steps = {part: [float(f"{x:.9g}") for x in xs] for part, xs in trajectory(rule).items()}
        golden[name] = {"sha256": fingerprint(rule.state_dict()), "trajectory": steps}
    FILE.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
