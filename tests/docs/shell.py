"""Commands in the pages for readers, and whether there is what they ask for."""

import itertools
import re
import shlex
from importlib import import_module
from importlib.util import find_spec

import tyro

from meta_train import cli
from meta_train.errors import MetaTrainError
from tests.docs.project import EXTRAS, ROOT

MADE = {"docs/_build", "runs/workloads"}
"""What commands make."""
KNOWN = {"bash", "pip", "python", "source", "tensorboard", "torchrun"}
"""Programs that pages may speak of."""

ELSEWHERE = {"pip", "pytest", "sphinx", "tarfile", "tensorboard", "venv"}
"""Modules of others, whose options are not looked at."""


def commands(text):
    """The commands in a block: lists of words, without comments, assignments and continuations."""
    known = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for both, part in itertools.groupby(words, lambda word: word == "&&"):
            command = [] if both else list(part)
            if len(command) == 1 and "=" in command[0]:
                name, _, known[name] = command[0].partition("=")
            elif command:
                yield [filled for word in command for filled in _filled(word, known)]


def _filled(word, known):
    name = word.removeprefix("$")
    return shlex.split(known[name]) if word.startswith("$") and name in known else [word]


def check(words):
    """Raise an `AssertionError` if a command asks for something that is not there."""
    program, *arguments = words
    assert program in KNOWN, f"nothing is known of `{program}`"
    if program == "torchrun":
        program, arguments = "python", arguments[arguments.index("-m") :]
    if program == "bash":
        assert (ROOT / arguments[0]).is_file(), f"there is no {arguments[0]}"
    elif program == "pip":
        _check_pip(arguments)
    elif program == "python":
        _check_python(arguments)


def _check_pip(arguments):
    for word in arguments:
        for extras in re.findall(r"^\.\[(.*)\]$", word):
            unknown = set(extras.split(",")) - EXTRAS.keys()
            assert not unknown, f"there is no extra {unknown}"
    if "-c" in arguments:
        assert (ROOT / arguments[arguments.index("-c") + 1]).is_file()


def _check_python(arguments):
    if arguments[0] == "-m":
        _check_module(arguments[1], arguments[2:])
    elif arguments[0] != "-c":
        script = ROOT / arguments[0]
        assert script.is_file(), f"there is no {arguments[0]}"
        _check_mentioned(script, arguments[1:])


def _check_module(name, arguments):
    if name == "meta_train":
        _parse(cli.read, arguments)
    elif name in ELSEWHERE:
        for word in arguments:
            there = "/" not in word or word in MADE or (ROOT / word).exists()
            assert there, f"there is no {word}"
    else:
        assert find_spec(name), f"there is no module {name}"
        module = import_module(name)
        if hasattr(module, "__path__"):  # a package is run by its `__main__`
            name = f"{name}.__main__"
            assert find_spec(name), f"there is no module {name}"
            module = import_module(name)
        if hasattr(module, "Options"):
            _parse(lambda given: tyro.cli(module.Options, args=given), arguments)
        else:
            _check_mentioned(ROOT / f"{name.replace('.', '/')}.py", arguments)


def _parse(read, arguments):
    """Read options in the program's own way, without doing anything."""
    try:
        read(arguments)
    except (SystemExit, MetaTrainError) as stop:
        raise AssertionError(f"not understood: {shlex.join(arguments)}") from stop


def _check_mentioned(script, arguments):
    text = script.read_text()
    for word in arguments:
        if word.startswith("-") and word != "--help":
            assert f'"{word.partition("=")[0]}"' in text, f"{script.name} has no {word}"
