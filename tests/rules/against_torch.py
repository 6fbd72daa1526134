"""Side by side with an optimizer of torch, on the gradients of a small convnet in training."""

import torch
from torch import nn

from ngopt.optim.optimizer import NeuralGraphOptimizer
from tests.contract import Small, backward

STEPS = 40
DTYPES = (torch.float32, torch.float64)
LR, DECAY = 2.0**-7, 2.0**-3
"""Powers of two, so that torch's factor `1 - lr * weight_decay` is not rounded in every step."""


def largest_error(rule, make_theirs, dtype, lr=LR, decay=0.0, chosen=lambda parameter: True):
    """Train with torch's optimizer for some steps, and give the same gradients to the rule.

    Args:
        rule: the rule.
        make_theirs: builds torch's optimizer from parameters and `lr`.
        dtype: of the model.
        lr: learning rate of both.
        decay: decoupled weight decay of ours; torch's is up to `make_theirs`.
        chosen: which parameters are compared; the others are left as they are.

    Returns:
        Largest difference of any entry after any step, and the farthest that any entry has moved,
        both relative to the largest entry.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small().to(dtype)
    theirs = [p for p in model.parameters() if chosen(p)]
    start = [p.detach().clone() for p in theirs]
    ours = [nn.Parameter(p.clone()) for p in start]
    first = NeuralGraphOptimizer(ours, lr, rule=rule, weight_decay=decay)
    second = make_theirs(theirs, lr=lr)
    errors = []
    for step in range(STEPS):
        backward(model, step % 10)
        for a, b in zip(ours, theirs, strict=True):
            a.grad = b.grad.clone()
        first.step()
        second.step()
        errors.append(relative(ours, theirs))
    return max(errors), relative(ours, start)


def relative(first, second):
    a, b = (nn.utils.parameters_to_vector(tensors).detach() for tensors in (first, second))
    return float((a - b).abs().max() / b.abs().max())
