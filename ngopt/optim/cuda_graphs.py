"""Capture of steps in CUDA graphs: what has to be prepared, and what is refused."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ngopt.backends.dispatch import PLAIN
from ngopt.errors import CaptureError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.annealing import matches_device
from ngopt.rules.rule import Rule

OUTSIDE = "Capture the forward and backward pass, and call step() outside"


@dataclass(frozen=True)
class CapturePreparation:
    """What the last step outside a CUDA graph has prepared for the captured one.

    Args:
        graph: describes the parameters.
        tensors: name, dtype and strides of each parameter that had a gradient.
    """

    graph: NeuralGraph
    tensors: tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]

    @classmethod
    def of(cls, params: Mapping[str, Tensor], graph: NeuralGraph) -> "CapturePreparation":
        """Describe a step of some parameters."""
        tensors = tuple((name, p.dtype, p.stride()) for name, p in params.items())
        return cls(graph, tensors)


def capturable(groups: Iterable[Mapping[str, Any]]) -> bool:
    """Whether all groups that have gradients were built with `capturable=True`."""
    return all(group.get("capturable") for group in groups if _has_gradients(group))


def check_capture(
    groups: Iterable[Mapping[str, Any]],
    params: Mapping[str, Tensor],
    state: Mapping[Tensor, Any],
    rule: Rule,
    graph: NeuralGraph,
    prepared: CapturePreparation | None,
) -> None:
    """Raise `CaptureError` unless a step may be captured now, before anything has changed.

    Args:
        groups: the parameter groups.
        params: those that have a gradient, by name.
        state: of the optimizer, by its tensors.
        rule: the rule.
        graph: describes the parameters.
        prepared: what the last step outside a graph has prepared, if there was one.
    """
    groups, device = [*groups], next(iter(params.values())).device
    if not capturable(groups):
        raise _refusal(
            "each replay would begin with the state of the first, for the optimizer was built "
            "without capturable=True",
            'Build it with capturable=True and lr=torch.tensor(1e-3, device="cuda"). Or capture '
            "the forward and backward pass, and call step() outside",
        )
    grads = {name: p.grad for name, p in params.items() if p.grad is not None}
    if not rule.steps_in_place(grads):
        raise _refusal(f"the rule {type(rule).__name__} replaces its state", OUTSIDE)
    if rule.reports_diagnostics:
        raise _refusal("the rule reports diagnostics", "Turn them off while capturing")
    for tensor in (*params.values(), *grads.values(), *_options(groups)):
        if type(tensor) not in PLAIN or tensor.device != device:
            raise _refusal(
                f"it takes tensors that are whole and on {device}, but one of shape "
                f"{tuple(tensor.shape)} is a {type(tensor).__name__} on {tensor.device}",
                "Move parameters, lr and weight_decay there",
            )
    ready = all(matches_device(group) for group in groups if _has_gradients(group))
    there = all(param in state for param in params.values())
    if not (ready and there and prepared == CapturePreparation.of(params, graph)):
        raise _refusal(
            "there was no step before it with gradients of the same parameters",
            "Do some steps outside the graph first, to warm up",
        )


def _has_gradients(group: Mapping[str, Any]) -> bool:
    return any(param.grad is not None for param in group["params"])


def _options(groups: Iterable[Mapping[str, Any]]) -> list[Tensor]:
    found = (group.get(key) for group in groups for key in ("lr", "weight_decay"))
    return [option for option in found if isinstance(option, Tensor)]


def _refusal(why: str, remedy: str) -> CaptureError:
    return CaptureError(f"a step cannot be captured in a CUDA graph: {why}.\n  {remedy}.")
