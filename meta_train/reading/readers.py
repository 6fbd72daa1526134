"""Encoders by the text that names them, and the network that predicts from an encoding."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from meta_train.errors import MetaTrainError
from meta_train.spec import look_up, parse
from meta_train.tasks.model_task import fresh
from ngopt.encoders.networks import Networks

Build = Callable[..., nn.Module]
"""Builds an encoder from example networks, with options by name."""

ENCODERS: dict[str, Build] = {}
"""Encoders by name."""


def encoder_of(text: str, networks: Networks, seed: int) -> nn.Module:
    """Build an encoder.

    Args:
        text: one of :data:`ENCODERS`, with options, such as `ng_gnn:width=32,layers=4`.
        networks: one of each architecture that it will read.
        seed: of its first weights.

    Raises:
        MetaTrainError: if there is no such encoder, or it refuses the options.
    """
    spec = parse(text)
    build = look_up(ENCODERS, spec.name, "encoder")
    try:
        return build(networks, seed=seed, **spec.options)
    except TypeError as error:
        raise MetaTrainError(
            f"cannot build the encoder `{text}` ({error}).\n"
            f"  Give options that `{spec.name}` has, as name:key=value,key=value."
        ) from error


class Reader(nn.Module):
    """An encoder and a small network that predicts from the encoding.

    Args:
        encoder: with `width`, the size of its encodings.
        outputs: numbers to predict.
        hidden: width of the hidden layer.
        dropout: share of the encoding, and of the hidden layer, that is set to 0 in training.
        seed: of the first weights of the small network.
    """

    def __init__(
        self,
        encoder: nn.Module,
        outputs: int,
        hidden: int = 128,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        width: Any = encoder.width
        generator = torch.Generator().manual_seed(seed)
        self.head = fresh(
            lambda: nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(width, hidden),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, outputs),
            ),
            generator,
        )

    def forward(self, networks: Networks) -> Tensor:
        """Map networks to outputs, `(networks, outputs)`."""
        outputs: Tensor = self.head(self.encoder(networks))
        return outputs


def weights(module: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in module.parameters())
