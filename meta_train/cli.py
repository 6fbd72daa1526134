"""Commands and their options, which `tyro` reads from the dataclasses that the functions take."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

from meta_train.config import Config
from meta_train.errors import MetaTrainError
from meta_train.evaluate import EvaluateOptions, run_evaluate
from meta_train.export import ExportOptions, run_export
from meta_train.inventory import TasksOptions, run_tasks
from meta_train.presets import PRESETS
from meta_train.reading.edit import EditOptions, run_edit
from meta_train.reading.emulate import EmulateOptions, run_emulate
from meta_train.reading.predict import PredictOptions, run_predict
from meta_train.reading.relational import RelationalOptions, run_relational
from meta_train.train import meta_train
from meta_train.zoo.command import ZooOptions, run_zoo
from ngopt.errors import NgoptError

COMMANDS: dict[type, Callable[[Any], object]] = {
    Config: meta_train,
    EvaluateOptions: run_evaluate,
    ExportOptions: run_export,
    TasksOptions: run_tasks,
    PredictOptions: run_predict,
    EmulateOptions: run_emulate,
    EditOptions: run_edit,
    ZooOptions: run_zoo,
    RelationalOptions: run_relational,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error that ngopt raises on purpose ends it with a message, code 1.

    Args:
        arguments: of the command line; those of this process by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = read(arguments)
        COMMANDS[type(options)](options)
    except NgoptError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on from the last checkpoint.")


def read(arguments: Sequence[str]) -> Any:
    """Return the options of a command: a dataclass of :data:`COMMANDS`."""
    train = PRESETS[preset(arguments)]
    commands: Any = (
        Annotated[
            Config,
            tyro.conf.subcommand(
                "train", default=train, description="Learn theta, the weights of a rule."
            ),
        ]
        | Annotated[
            EvaluateOptions,
            tyro.conf.subcommand("evaluate", description="Compare rules and tuned opponents."),
        ]
        | Annotated[
            ExportOptions,
            tyro.conf.subcommand(
                "export", description="Write the rule of a run to a file for NeuralGraphOptimizer."
            ),
        ]
        | Annotated[
            TasksOptions, tyro.conf.subcommand("tasks", description="List families of tasks.")
        ]
        | Annotated[
            PredictOptions,
            tyro.conf.subcommand("predict", description="Tell properties of networks by weights."),
        ]
        | Annotated[
            EditOptions,
            tyro.conf.subcommand("edit", description="Change networks to edit their images."),
        ]
        | Annotated[
            EmulateOptions,
            tyro.conf.subcommand(
                "emulate", description="Encode recurrent networks, to do as they do."
            ),
        ]
        | Annotated[
            ZooOptions,
            tyro.conf.subcommand("zoo", description="Train many networks, to be read by others."),
        ]
        | Annotated[
            RelationalOptions,
            tyro.conf.subcommand(
                "relational", description="Train networks wired as graphs of all kinds."
            ),
        ]
    )
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
