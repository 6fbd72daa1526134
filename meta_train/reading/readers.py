"""Encoders by the text that names them, and the network that predicts from an encoding."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from meta_train.errors import MetaTrainError
from meta_train.spec import look_up, parse
from meta_train.tasks.model_task import fresh
from ngopt.encoders import ENCODERS as TABLE
from ngopt.encoders.flat import FlatMLP
from ngopt.encoders.graph_encoder import GraphEncoder
from ngopt.encoders.networks import Networks
from ngopt.encoders.probes import ProbeEncoder
from ngopt.encoders.probing import FixedProbing, InteractiveProbing
from ngopt.encoders.recurrent import LSTMs
from ngopt.encoders.statistics import StatNN
from ngopt.errors import EncoderError

Build = Callable[..., nn.Module]
"""Builds an encoder from example networks, a seed, and options by name."""

ENCODERS: dict[str, Build] = {}
"""Encoders by name."""

ONE_ARCHITECTURE: Mapping[str, Mapping[str, Any]] = {
    **{n: {"scale": "tensor"} for n in ("ng_gnn", "ng_gnn_pna", "ng_t", "nfn", "nfn_hnp", "dws")},
    "one_pass": {"own_weights": True},
}
"""Options of encoders where all networks are of one architecture, if no others are given."""


ALONE = ("flat", "flat_augmented")
"""Encoders that read one architecture only."""


def encoder(name: str) -> Callable[[Build], Build]:
    """Decorate a function that builds an encoder, so that commands know it.

    Args:
        name: for the command line. The function takes example networks, then options by name, of
            which one is `seed`; the encoder has `width`, the size of its encodings.
    """

    def enter(build: Build) -> Build:
        ENCODERS[name] = build
        return build

    return enter


def _from_table(name: str, networks: Networks, **options: Any) -> nn.Module:
    """Build an encoder of ngopt's table, which knows how large the weights of the examples are."""
    alone = len(networks.stacks) == 1
    own = ONE_ARCHITECTURE.get(name, {}) if alone else {}
    kind = options.get("probes")
    if isinstance(kind, str):
        probes = {"shape": _shapes(networks)[0], "kind": kind, "count": options.pop("count", 64)}
        options["probes"] = probes
    example = networks if alone or name in ALONE else None
    built = TABLE[name](example, **{**own, **options})
    if isinstance(built, GraphEncoder | FlatMLP | StatNN):
        built.fit_scale(networks)
    return built


for _name in TABLE:
    ENCODERS[_name] = partial(_from_table, _name)
ENCODERS["statistics"] = ENCODERS["stat_nn"]


@encoder("probes")
def _probes(networks: Networks, **options: Any) -> nn.Module:
    inputs, outputs = _shapes(networks)
    return ProbeEncoder(inputs, outputs, **options)


@encoder("fixed_probing")
def _fixed_probing(networks: Networks, **options: Any) -> nn.Module:
    return FixedProbing(**_asked(networks), **options)


@encoder("interactive_probing")
def _interactive_probing(networks: Networks, **options: Any) -> nn.Module:
    return InteractiveProbing(**_asked(networks), **options)


def _asked(networks: Networks) -> dict[str, Any]:
    """What probing of recurrent networks must know of them."""
    found = LSTMs.of(networks.stacks[0])
    # Those that read what they write read tokens; others read tiles of images.
    probes = "tokens" if found.inputs == found.outputs else "unit"
    return {"inputs": found.inputs, "outputs": found.outputs, "probes": probes}


def _shapes(networks: Networks) -> tuple[tuple[int, ...], int]:
    """Shape of one input of the networks, and how many numbers they answer to it."""
    model: Any = networks.stacks[0].model
    if not hasattr(model, "inputs"):
        raise MetaTrainError(
            "cannot probe networks without a model that runs them.\n  Use another encoder."
        )
    (inputs,) = model.inputs()
    with torch.no_grad():
        outputs = model(inputs[:1])
    return tuple(inputs.shape[1:]), outputs.numel()


def encoder_of(text: str, networks: Networks, seed: int, **more: Any) -> nn.Module:
    """Build an encoder.

    Args:
        text: one of :data:`ENCODERS`, with options, such as `ng_gnn:width=32,layers=4`, or
            `ng_gnn:probes=generator,count=64`, which hears what networks answer to probes; or
            several of them with `+`, whose encodings are joined.
        networks: examples of what it will read, of each architecture.
        seed: of its first weights.
        more: options that it must take besides.

    Raises:
        MetaTrainError: if there is no such encoder, or it refuses the options.
    """
    parts = [_encoder_of(part, networks, seed, more) for part in text.split("+")]
    return parts[0] if len(parts) == 1 else Joined(parts)


def _encoder_of(text: str, networks: Networks, seed: int, more: Mapping[str, Any]) -> nn.Module:
    spec = parse(text)
    build = look_up(ENCODERS, spec.name, "encoder")
    try:
        return build(networks, seed=seed, **spec.options, **more)
    except (TypeError, EncoderError) as error:
        raise MetaTrainError(
            f"cannot build the encoder `{text}` ({error}).\n"
            f"  Give options that `{spec.name}` has, as name:key=value,key=value."
        ) from error


class Joined(nn.Module):
    """Encodings of several encoders beside each other.

    Args:
        encoders: each with its `width`.
    """

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        widths: list[Any] = [encoder.width for encoder in encoders]
        self.width = sum(widths)

    def forward(self, networks: Networks) -> Tensor:
        """Encode networks, `(networks, width)`."""
        return torch.cat([encoder(networks) for encoder in self.encoders], 1)


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
