"""Networks that read networks: encoders of trained models, on the same graph as the optimizer's."""

from collections.abc import Callable, Mapping
from functools import partial

from ngopt.encoders.encoder import Encoder
from ngopt.encoders.flat import FlatMLP
from ngopt.encoders.graph_network import NGGNN, NGT
from ngopt.encoders.library import load_encoder, save_encoder
from ngopt.encoders.networks import Networks, Stack
from ngopt.encoders.relations import DWS, NFN
from ngopt.encoders.statistics import StatNN

ENCODERS: Mapping[str, Callable[..., Encoder]] = {
    "stat_nn": StatNN,
    "flat": FlatMLP,
    "flat_augmented": partial(FlatMLP, augment=True),
    "nfn": NFN,
    "nfn_hnp": partial(NFN, variant="hnp"),
    "dws": DWS,
    "ng_gnn": NGGNN,
    "ng_t": NGT,
}
"""Encoders by name. Each is built from an example of the networks, and may have options: `width=`
and `seed=` always."""

__all__ = [
    "DWS",
    "ENCODERS",
    "NFN",
    "NGGNN",
    "NGT",
    "Encoder",
    "FlatMLP",
    "Networks",
    "Stack",
    "StatNN",
    "load_encoder",
    "save_encoder",
]
