"""The command `zoo` and its subcommands."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Union

import tyro

from meta_train.zoo.cnn import CnnOptions, run_cnn
from meta_train.zoo.inr import InrOptions, run_inr
from meta_train.zoo.relational import RelationalZooOptions, run_relational_zoo
from meta_train.zoo.rnn import run_rnn
from meta_train.zoo.rnn_options import RnnOptions


class Subcommand(NamedTuple):
    """A kind of zoo.

    Args:
        name: on the command line.
        run: makes the zoo.
        description: one sentence for `--help`.
    """

    name: str
    run: Callable[[Any], object]
    description: str


ZOOS: dict[type, Subcommand] = {
    InrOptions: Subcommand("inr", run_inr, "Sine networks that are images."),
    CnnOptions: Subcommand("cnn", run_cnn, "Convolutional networks that classify images."),
    RnnOptions: Subcommand("rnn", run_rnn, "LSTMs on formal languages or turned digits."),
    RelationalZooOptions: Subcommand(
        "relational", run_relational_zoo, "Networks that are wired as graphs."
    ),
}
"""All kinds of zoos, by the class of their options."""

_Zoo: Any = Union[  # noqa: UP007 - of as many as there are
    tuple(
        Annotated[options, tyro.conf.subcommand(zoo.name, description=zoo.description)]
        for options, zoo in ZOOS.items()
    )
]


@dataclass(frozen=True)
class ZooOptions:
    """Make a zoo: a population of trained networks, from a seed.

    Args:
        zoo: kind of the networks, and the options of that kind.
    """

    zoo: Annotated[_Zoo, tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes]


def run_zoo(options: ZooOptions) -> None:
    """Make the zoo, or what is missing of it."""
    ZOOS[type(options.zoo)].run(options.zoo)
