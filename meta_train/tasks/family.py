"""Families of tasks: choices of architecture and data, one task for each combination."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from meta_train.errors import MetaTrainError
from meta_train.spec import parse
from meta_train.tasks.task import Task

FAMILIES: dict[str, type["Family"]] = {}
Class = TypeVar("Class", bound="type[Family]")


class Sampler(Protocol):
    """Anything that tasks can be drawn from."""

    def sample(self, generator: torch.Generator) -> Task:
        """Draw a task; the same state of the generator gives the same task."""


@dataclass(frozen=True)
class Family:
    """A set of tasks. Subclasses are dataclasses whose every field is a tuple of choices.

    Sampling picks one choice of each field, evenly, and builds the task of that combination.

    Example:
        >>> from meta_train.tasks.mlp import MLP
        >>> family = MLP(width=(8, 16), depth=(2,))
        >>> family.sample(torch.Generator().manual_seed(0)).name
        'mlp(data=digits, size=8, width=16, depth=2, norm=none, activation=relu, batch=64)'
    """

    family: ClassVar[str]
    """Name on the command line."""

    task: ClassVar[Callable[..., Task]]
    """Method that builds the task of one choice of each field, given by keyword."""

    def sample(self, generator: torch.Generator) -> Task:
        """Draw a task."""
        choice = {}
        for field in fields(self):
            choices = getattr(self, field.name)
            choice[field.name] = choices[int(torch.randint(len(choices), (), generator=generator))]
        task = self.task(**choice)
        task.name = self.label(**choice)
        return task

    def label(self, **choice: Any) -> str:
        """Name of the task of one choice."""
        return f"{self.family}({', '.join(f'{key}={value}' for key, value in choice.items())})"


def register(name: str) -> Callable[[Class], Class]:
    """Decorator that gives a family its name on the command line.

    Raises:
        MetaTrainError: if another family has that name.
    """

    def add(cls: Class) -> Class:
        known = FAMILIES.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise MetaTrainError(f"there is a family `{name}` already.\n  Choose another name.")
        cls.family = name
        FAMILIES[name] = cls
        return cls

    return add


def family_of(text: str) -> Family:
    """Build a family from its name and options, such as `mlp:width=16|32,data=digits`.

    Raises:
        MetaTrainError: if there is no such family, or it has no such option.
    """
    name, options = parse(text)
    if name not in FAMILIES:
        raise MetaTrainError(
            f"there is no family `{name}`.\n  Use one of: {', '.join(sorted(FAMILIES))}; or "
            "import the module that registers it (--imports)."
        )
    known = [field.name for field in fields(FAMILIES[name])]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise MetaTrainError(
            f"the family `{name}` has no option {', '.join(map(repr, unknown))}.\n"
            f"  It has: {', '.join(known)}."
        )
    choices = {key: v if isinstance(v, tuple) else (v,) for key, v in options.items()}
    family = FAMILIES[name](**choices)
    for key, values in choices.items():
        _check_choices(family, key, values)
    return family


def _check_choices(family: Family, key: str, values: tuple[Any, ...]) -> None:
    """Raise `MetaTrainError` unless the choices of a field are of the types of its defaults."""
    defaults = getattr(type(family), key, ())
    kinds = {type(default) for default in defaults}
    if float in kinds:
        kinds.add(int)
    for value in values:
        if kinds and type(value) not in kinds:
            raise MetaTrainError(
                f"the option {key} of `{family.family}` cannot be {value!r}.\n"
                f"  Use something like its defaults: {', '.join(map(repr, defaults))}."
            )
