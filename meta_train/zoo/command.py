"""The command `zoo` and its subcommands."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from meta_train.zoo.cnn import CnnOptions, run_cnn
from meta_train.zoo.inr import InrOptions, run_inr
from meta_train.zoo.relational import RelationalZooOptions, run_relational_zoo
from meta_train.zoo.rnn import run_rnn
from meta_train.zoo.rnn_options import RnnOptions

ZOOS: dict[type, Callable[[Any], object]] = {
    InrOptions: run_inr,
    CnnOptions: run_cnn,
    RnnOptions: run_rnn,
    RelationalZooOptions: run_relational_zoo,
}
"""What makes the zoo of each kind of options."""


@dataclass(frozen=True)
class ZooOptions:
    """Make a zoo: a population of trained networks, from a seed.

    Args:
        zoo: kind of the networks, and the options of that kind.
    """

    zoo: Annotated[
        Annotated[
            InrOptions, tyro.conf.subcommand("inr", description="Sine networks that are images.")
        ]
        | Annotated[
            CnnOptions,
            tyro.conf.subcommand("cnn", description="Convolutional networks that classify images."),
        ]
        | Annotated[
            RnnOptions,
            tyro.conf.subcommand("rnn", description="LSTMs on formal languages or turned digits."),
        ]
        | Annotated[
            RelationalZooOptions,
            tyro.conf.subcommand("relational", description="Networks that are wired as graphs."),
        ],
        tyro.conf.OmitSubcommandPrefixes,
        tyro.conf.OmitArgPrefixes,
    ]


def run_zoo(options: ZooOptions) -> None:
    """Make the zoo, or what is missing of it."""
    ZOOS[type(options.zoo)](options.zoo)
