"""The commands of `python -m meta_train`. What a command needs is imported when it is asked for."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple


class Command(NamedTuple):
    """A command, by where its parts are, as `module:name`.

    Args:
        options: class of its options, a dataclass that `tyro` reads from the command line.
        run: function that takes the options.
        description: one sentence for `--help`.
    """

    options: str
    run: str
    description: str


COMMANDS: dict[str, Command] = {
    "train": Command(
        "meta_train.config:Config",
        "meta_train.train:meta_train",
        "Learn theta, the weights of a rule.",
    ),
    "evaluate": Command(
        "meta_train.evaluate:EvaluateOptions",
        "meta_train.evaluate:run_evaluate",
        "Compare rules and tuned opponents.",
    ),
    "export": Command(
        "meta_train.export:ExportOptions",
        "meta_train.export:run_export",
        "Write the rule of a run to a file for NeuralGraphOptimizer.",
    ),
    "tasks": Command(
        "meta_train.list_tasks:TasksOptions",
        "meta_train.list_tasks:run_tasks",
        "List families of tasks.",
    ),
    "zoo": Command(
        "meta_train.zoo.command:ZooOptions",
        "meta_train.zoo.command:run_zoo",
        "Train many networks, to be read by others.",
    ),
    "predict": Command(
        "meta_train.reading.predict:PredictOptions",
        "meta_train.reading.predict:run_predict",
        "Predict properties of networks from their weights.",
    ),
    "edit": Command(
        "meta_train.reading.edit:EditOptions",
        "meta_train.reading.edit:run_edit",
        "Change networks to edit their images.",
    ),
    "emulate": Command(
        "meta_train.reading.emulate:EmulateOptions",
        "meta_train.reading.emulate:run_emulate",
        "Encode recurrent networks, to do as they do.",
    ),
    "relational": Command(
        "meta_train.reading.relational:RelationalOptions",
        "meta_train.reading.relational:run_relational",
        "Train networks wired as graphs of all kinds.",
    ),
}
"""All commands, by name."""

KEEPING = ("evaluate", "zoo", "emulate", "relational")
"""Commands that keep results as they come; `train` says by itself what it has saved."""

PROGRAM = "python -m meta_train"
HELP = ("-h", "--help")

EXTRA = ("higher", "scipy", "sklearn", "tensorboard", "tqdm", "tyro")
"""Modules of the extra `ngopt[meta-train]`."""

UNUSABLE = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Errors of the system that come from a path in an option."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error that ngopt raises on purpose ends it with a message, code 1.

    Args:
        arguments: of the command line; those of this process by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in HELP:
        sys.stdout.write(overview())
        sys.exit(0 if arguments else 2)
    try:
        _run(arguments)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        sys.exit(
            f"`{PROGRAM}` needs the package of `{missing}`, which is not installed.\n"
            '  Install all that it needs with: pip install "ngopt[meta-train]"'
        )
    except KeyboardInterrupt as stopped:
        rest = " What is finished is kept: the same command computes the rest."
        sys.exit(str(stopped) or f"Stopped.{rest if arguments[0] in KEEPING else ''}")


def overview() -> str:
    """All commands, a line each; made without importing any of them."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.description}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [OPTIONS]",
            "",
            "Meta-train learned optimizers, evaluate and export them.",
            "",
            *lines,
            "",
            f"Options of a command:  {PROGRAM} COMMAND --help",
            f"Presets of training:   {PROGRAM} train --help",
            "",
        ]
    )


def read(arguments: Sequence[str]) -> Any:
    """Return the options of a command: an instance of the class in :data:`COMMANDS`.

    Args:
        arguments: name of the command, and its options.

    Raises:
        MetaTrainError: if there is no such command or preset.
        SystemExit: after help, or if an option is wrong.
    """
    import tyro

    from meta_train.spec import look_up

    name, *rest = arguments
    command = look_up(COMMANDS, name, "command")
    given: dict[str, Any] = {}
    description = command.description
    if name == "train":
        presets = importlib.import_module("meta_train.presets")
        given["default"] = look_up(presets.PRESETS, preset(rest), "preset")
        description += f"\n\n{presets.listed()}"
    return tyro.cli(
        _load(command.options),
        args=rest,
        prog=f"{PROGRAM} {name}",
        description=description,
        **given,
    )


def preset(arguments: Sequence[str]) -> str:
    """Name of the preset that the command line asks for; it is needed to read the rest.

    >>> preset(["--preset", "smoke"]), preset(["--preset=lstm"]), preset([])
    ('smoke', 'lstm', 'default')
    """
    name = "default"
    for position, argument in enumerate(arguments):
        if argument.startswith("--preset="):
            name = argument.partition("=")[2]
        elif argument == "--preset" and position + 1 < len(arguments):
            name = arguments[position + 1]
    return name


def _run(arguments: Sequence[str]) -> None:
    from ngopt.errors import NgoptError

    try:
        options = read(arguments)
        _load(COMMANDS[arguments[0]].run)(options)
    except NgoptError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except UNUSABLE as error:
        if error.filename is None:
            raise
        sys.exit(
            f"cannot use `{error.filename}`: {error.strerror}.\n"
            "  Give another file or folder, one that you may write to."
        )


def _load(place: str) -> Any:
    """Import what is at `module:name`."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
