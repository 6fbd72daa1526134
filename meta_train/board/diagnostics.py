"""Diagnostics of a rule: what it decides and how it moves weights, in one watched inner run."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value

from meta_train.board.cards import ANGLE, CORRECTION, NEURONS, SCALE, UPDATE
from meta_train.curves import Setting, shown_steps
from meta_train.tasks.task import Task, Tensors
from ngopt.monitor.adam_comparison import AdamComparison
from ngopt.monitor.diagnostics import Diagnostics, record_diagnostics
from ngopt.monitor.measures import angle, change, rms
from ngopt.optim.update import Options, init_state, update
from ngopt.rules.rule import Rule

POINTS = 50
"""Number of inner steps that are shown, at most about."""


class StepDiagnostics(NamedTuple):
    """What is seen in one inner step.

    Args:
        step: number of the inner step, from 1.
        numbers: by tag; finite.
        images: makes pictures `(3, height, width)`, by tag.
    """

    step: int
    numbers: dict[str, float]
    images: Callable[[], Tensors]


@torch.no_grad()
def diagnose(
    rule: Rule, task: Task, setting: Setting, steps: int, seed: int
) -> Iterator[StepDiagnostics]:
    """Train one model, alone, with a rule that is watched.

    Args:
        rule: the rule; it stays as it is.
        task: what to train.
        setting: how the rule is used.
        steps: number of inner steps.
        seed: of the model and its batches.

    Yields:
        What is seen in about :data:`POINTS` of the steps, the first and the last among them.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters, context = task.problem(generator)
    stacked = {name: tensor[None] for name, tensor in context.items()}
    state, adam = init_state(parameters, task.graph, rule), AdamComparison()
    label = f"watching {type(rule).__name__} on {task.name.partition('(')[0]}"
    for step in (number + 1 for number in shown_steps(steps, label)):
        batch = tuple(t[0] for t in task.batches(stacked, 1, generator))
        gradients, _ = grad_and_value(task.loss)(parameters, context, batch)
        lr = setting.rate(step - 1, steps)
        decay = setting.weight_decay
        own = rule.weight_decay(step) if decay is None else decay
        options = {
            name: Options(lr, own if tensor.dim() > 1 else decay or 0.0)
            for name, tensor in parameters.items()
        }
        with record_diagnostics(rule) as seen:
            after = update(parameters, gradients, state, task.graph, rule, options)
        adams = adam.step(parameters, gradients, options)
        if (step - 1) % math.ceil(steps / POINTS) == 0 or step == steps:
            moves = change(parameters, after.params)
            numbers = {t: float(value) for t, value in _numbers(moves, adams, seen).items()}
            finite = {tag: value for tag, value in numbers.items() if math.isfinite(value)}
            yield StepDiagnostics(step, finite, partial(_images, seen))
        parameters, state = after.params, after.state


def _numbers(moves: Tensors, adams: Tensors, seen: Diagnostics) -> Tensors:
    decided = {
        tag.removeprefix("scale/"): value
        for tag, value in seen.numbers().items()
        if tag.startswith("scale/")
    }
    return {
        f"{ANGLE}/all parameters": angle(moves, adams),
        **{f"{ANGLE}/{name}": angle(move, adams[name]) for name, move in moves.items()},
        **{f"{UPDATE}/{name}": rms(move) for name, move in moves.items()},
        **{f"{SCALE}/{name}": value for name, value in decided.items()},
    }


def _images(seen: Diagnostics) -> Tensors:
    groups = {"correction": CORRECTION, "neurons": NEURONS}
    pictures = seen.images().items()
    return {
        f"{groups[tag.partition('/')[0]]}/{tag.partition('/')[2]}": _lying(picture)
        for tag, picture in pictures
    }


def _lying(picture: Tensor) -> Tensor:
    """TensorBoard makes all pictures equally wide: tall ones would fill several pages."""
    height, width = picture.shape[1:]
    return picture.transpose(1, 2) if height > width else picture
