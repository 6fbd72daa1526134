"""Commands and their options, which `tyro` reads from the dataclasses that the functions take."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, Union

import tyro

from meta_train.config import Config
from meta_train.errors import MetaTrainError
from meta_train.evaluate import EvaluateOptions, run_evaluate
from meta_train.export import ExportOptions, run_export
from meta_train.list_tasks import TasksOptions, run_tasks
from meta_train.presets import PRESETS
from meta_train.reading.edit import EditOptions, run_edit
from meta_train.reading.emulate import EmulateOptions, run_emulate
from meta_train.reading.predict import PredictOptions, run_predict
from meta_train.reading.relational import RelationalOptions, run_relational
from meta_train.train import meta_train
from meta_train.zoo.command import ZooOptions, run_zoo
from ngopt.errors import NgoptError


class Command(NamedTuple):
    """A command, beside the class of its options.

    Args:
        name: on the command line.
        run: what it does with its options.
        description: one sentence for `--help`.
    """

    name: str
    run: Callable[[Any], object]
    description: str


COMMANDS: dict[type, Command] = {
    Config: Command("train", meta_train, "Learn theta, the weights of a rule."),
    EvaluateOptions: Command("evaluate", run_evaluate, "Compare rules and tuned opponents."),
    ExportOptions: Command(
        "export", run_export, "Write the rule of a run to a file for NeuralGraphOptimizer."
    ),
    TasksOptions: Command("tasks", run_tasks, "List families of tasks."),
    ZooOptions: Command("zoo", run_zoo, "Train many networks, to be read by others."),
    PredictOptions: Command("predict", run_predict, "Tell properties of networks by weights."),
    EditOptions: Command("edit", run_edit, "Change networks to edit their images."),
    EmulateOptions: Command("emulate", run_emulate, "Encode recurrent networks, to do as they do."),
    RelationalOptions: Command(
        "relational", run_relational, "Train networks wired as graphs of all kinds."
    ),
}
"""All commands, by the class of their options."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error that ngopt raises on purpose ends it with a message, code 1.

    Args:
        arguments: of the command line; those of this process by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = read(arguments)
        COMMANDS[type(options)].run(options)
    except NgoptError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on from the last checkpoint.")


def read(arguments: Sequence[str]) -> Any:
    """Return the options of a command: a dataclass of :data:`COMMANDS`."""
    given: dict[type, dict[str, Any]] = {Config: {"default": PRESETS[preset(arguments)]}}
    commands: Any = Union[  # noqa: UP007 - of as many as there are
        tuple(
            Annotated[
                options,
                tyro.conf.subcommand(
                    command.name,
                    description=command.description,
                    **given.get(options, {}),
                ),
            ]
            for options, command in COMMANDS.items()
        )
    ]
    return tyro.cli(
        commands,
        args=list(arguments),
        prog="python -m meta_train",
        description=f"Meta-train learned optimizers. Presets: {', '.join(PRESETS)}.",
    )


def preset(arguments: Sequence[str]) -> str:
    """Name of the preset that the command line asks for; it is needed to read the rest.

    >>> preset(["train", "--preset", "smoke"]), preset(["train", "--preset=lstm"])
    ('smoke', 'lstm')
    """
    name = "default"
    for position, argument in enumerate(arguments):
        if argument.startswith("--preset="):
            name = argument.partition("=")[2]
        elif argument == "--preset" and position + 1 < len(arguments):
            name = arguments[position + 1]
    if name not in PRESETS:
        raise MetaTrainError(f"there is no preset `{name}`.\n  Use one of: {', '.join(PRESETS)}.")
    return name
