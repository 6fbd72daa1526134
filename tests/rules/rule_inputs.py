"""What the tests of rules give to them: random weights, gradients, and states after a few steps."""

import torch

from tests.hand_built import EXAMPLES

GRAPHS = {name: example()[1] for name, example in EXAMPLES.items()}
MLP = GRAPHS["mlp"]


def randomize(module, seed=0, size=0.5):
    """Draw all of theta: where a fresh rule has zeros, its tests would see nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    return module


def draw(described, seed, dtype=torch.float64):
    """A random tensor for each parameter."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(item.shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, item in described.parameters.items()
    }


def warm(rule, described, dtype=torch.float64, steps=3):
    """Parameters, gradients of the next step, and the state after a few."""
    parameters = draw(described, 0, dtype)
    state = rule.init_state(parameters, described)
    with torch.no_grad():
        for step in range(steps):
            _, state = rule(parameters, draw(described, step + 1, dtype), state, described)
    return parameters, draw(described, steps + 1, dtype), state


def relative_error(a, b):
    return max((a[name] - b[name]).abs().max() / b[name].abs().max() for name in b)
