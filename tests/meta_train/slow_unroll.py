"""One inner run, step by step, as it would be written by hand: the slow and obvious version."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ngopt.optim.update import Options, init_state, update


@dataclass
class SlowRun:
    """What is left of a run.

    Args:
        parameters: of the model.
        state: of the rule.
        losses: after each step; differentiable with respect to theta.
        gradients: that the rule was given in each step.
    """

    parameters: dict[str, Tensor]
    state: dict[str, dict[str, Tensor]]
    losses: list[Tensor] = field(default_factory=list)
    gradients: list[dict[str, Tensor]] = field(default_factory=list)


def slow_unroll(rule, options, runs, index, drawn, steps, given=None):
    """Repeat one of the runs of a stack.

    Args:
        rule: whose theta to differentiate.
        options: of the unroll.
        runs: the stack where it began.
        index: which run.
        drawn: all batches of the stack, each with its split.
        steps: how many.
        given: gradients to give to the rule instead of the model's.
    """
    task, batches = runs.task, {"train": [], "held_out": []}
    for split, stacked in drawn:
        batches[split].append(tuple(tensor[index] for tensor in stacked))
    context = {name: tensor[index] for name, tensor in runs.context.items()}
    parameters = {name: tensor[index] for name, tensor in runs.parameters.items()}
    chosen = dict.fromkeys(parameters, Options(runs.lr[index], options.weight_decay))
    run = SlowRun(parameters, init_state(parameters, task.graph, rule))
    for step in range(steps):
        if given is None:
            gradients = _gradients(task, run.parameters, context, batches["train"][step], options)
        else:
            gradients = given[step]
        run.gradients.append(gradients)
        run.parameters, run.state, _ = update(
            run.parameters, gradients, run.state, task.graph, rule, chosen
        )
        measured = {
            "next": lambda step=step: batches["train"][step + 1],
            "same": lambda step=step: batches["train"][step],
            "held_out": lambda step=step: batches["held_out"][step],
        }[options.measure]()
        run.losses.append(task.loss(run.parameters, context, measured))
    return run


def _gradients(task, parameters, context, batch, options):
    """Gradients at the parameters, which remember theta in the second-order mode alone."""
    if options.second_order:
        at = {n: p if p.requires_grad else p.requires_grad_() for n, p in parameters.items()}
    else:
        at = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    loss = task.loss(at, context, batch)
    found = torch.autograd.grad(loss, list(at.values()), create_graph=options.second_order)
    return dict(zip(at, found, strict=True))
