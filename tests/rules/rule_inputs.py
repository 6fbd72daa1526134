"""What the tests of rules give to them: random weights, gradients, and states after a few steps."""

from functools import cache

import torch

from ngopt.backends.dispatch import without_loops
from ngopt.graph.trace import trace
from tests.hand_built import EXAMPLES
from tests.zoo import ZOO

GRAPHS = {name: example()[1] for name, example in EXAMPLES.items()}
MLP = GRAPHS["mlp"]
SOME = ("conv_flatten", "resnet", "hf_gpt2", "attention_fused", "lstm", "depthwise_separable")
"""Models of the zoo of many kinds, for tests that take too long on all of it."""


@cache
def zoo_graph(name):
    """The graph of a model of the zoo."""
    model, args, kwargs = ZOO[name].build()
    return trace(model.eval(), *args, **kwargs)


def randomize(module, seed=0, size=1.0):
    """Draw all of theta: where a fresh rule has zeros, its tests would see nothing.

    Matrices `(inputs, outputs)` keep the size of what goes through them, so that deep networks
    neither explode nor fall silent.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            inputs = parameter.shape[-2] if parameter.dim() > 1 else 4
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(size * inputs**-0.5 * noise)
    return module


def draw(described, seed, dtype=torch.float64):
    """A random tensor for each parameter."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(item.shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, item in described.parameters.items()
    }


def warm(rule, described, dtype=torch.float64, steps=2):
    """Parameters, gradients of the next step, and the state after a few."""
    parameters = draw(described, 0, dtype)
    gradients = [draw(described, step + 1, dtype) for step in range(steps)]
    _, state = trajectory(rule, described, parameters, gradients)
    return parameters, draw(described, steps + 1, dtype), state


def trajectory(rule, described, parameters, gradients):
    """Updates of each step from a fresh state, one step per dict of gradients; the last state."""
    state = rule.init_state(parameters, described)
    updates = []
    with torch.no_grad():
        for grads in gradients:
            update, state = rule(parameters, grads, state, described)
            updates.append(update)
    return updates, state


def relative_error(a, b):
    """Largest error of any tensor, in units of its largest entry; huge if that should be 0."""
    ratios = [
        (a[name] - tensor).abs().max()
        / tensor.abs().max().clamp(min=torch.finfo(tensor.dtype).tiny)
        for name, tensor in b.items()
        if tensor.numel()
    ]
    return torch.stack([ratio.double() for ratio in ratios]).max().item()


def difference_to_plain(run):
    """Largest difference of parameters to those that operations of torch alone lead to.

    Args:
        run: returns parameters and state after some steps; the states must agree as well.
    """
    here, state = run()
    with without_loops():
        there, expected = run()
    for name, tensors in expected.items():
        for key, tensor in tensors.items():
            torch.testing.assert_close(state[name][key], tensor, rtol=2**-7, atol=1e-6)
    return relative_error(here, there)
