"""Architectures by name: what a zoo builds its models of."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

import ngopt
from meta_train.spec import look_up
from meta_train.tasks.model_task import fresh
from ngopt.graph.neural_graph import NeuralGraph

M = TypeVar("M", bound=nn.Module)

MODELS: dict[str, type[nn.Module]] = {}
"""Classes of models by the names that zoos know them by. Each has :meth:`Traceable.inputs`."""


class Traceable(Protocol):
    """A module that knows what it can be run on."""

    def inputs(self) -> tuple[Tensor, ...]:
        """Example inputs of a forward pass, to trace the module with."""


def model(name: str) -> Callable[[type[M]], type[M]]:
    """Decorate a class of modules so that zoos can hold networks of it.

    Args:
        name: for the zoo's file. The class has a method `inputs`, see :class:`Traceable`.
    """

    def enter(cls: type[M]) -> type[M]:
        MODELS[name] = cls
        return cls

    return enter


@dataclass(frozen=True)
class Architecture:
    """How to build one model again.

    Args:
        model: one of :data:`MODELS`.
        config: arguments of the class, as plain data.
    """

    model: str
    config: Mapping[str, Any]

    def build(self) -> nn.Module:
        """Build the module, in evaluation mode; the global random state is left alone.

        Raises:
            MetaTrainError: if there is no such class.
        """
        build = look_up(MODELS, self.model, "model of a zoo")
        config = deepcopy(dict(self.config))
        return fresh(lambda: build(**config), torch.Generator().manual_seed(0)).eval()

    def trace(self) -> NeuralGraph:
        """Trace the module on its example inputs."""
        module = self.build()
        return ngopt.trace(module, *cast(Traceable, module).inputs())

    def plain(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"model": self.model, "config": dict(self.config)}
