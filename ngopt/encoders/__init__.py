"""Networks that read networks: encoders of trained models, on the same graph as the optimizer's."""

from collections.abc import Callable, Mapping
from functools import partial

from ngopt.encoders.encoder import Encoder
from ngopt.encoders.flat import FlatMLP
from ngopt.encoders.graph_network import NGGNN, NGT
from ngopt.encoders.library import load_encoder, save_encoder
from ngopt.encoders.networks import Networks, Stack
from ngopt.encoders.neuron_transformer import NeuronTransformer
from ngopt.encoders.one_pass import OnePass
from ngopt.encoders.probes import ProbeEncoder, Probes
from ngopt.encoders.probing import FixedProbing, InteractiveProbing
from ngopt.encoders.relations import DWS, NFN
from ngopt.encoders.statistics import StatNN
from ngopt.nn.pna import AGGREGATORS

ENCODERS: Mapping[str, Callable[..., Encoder]] = {
    "stat_nn": StatNN,
    "flat": FlatMLP,
    "flat_augmented": partial(FlatMLP, augment=True),
    "nfn": NFN,
    "nfn_hnp": partial(NFN, variant="hnp"),
    "dws": DWS,
    "ng_gnn": NGGNN,
    "ng_gnn_pna": partial(NGGNN, aggregators=AGGREGATORS),
    "ng_t": NGT,
    "neuron_transformer": NeuronTransformer,
    "one_pass": OnePass,
    "one_pass_own": partial(OnePass, own_weights=True),
}
"""Encoders by name, built from an example of the networks; all take `width=` and `seed=`."""

__all__ = [
    "DWS",
    "ENCODERS",
    "NFN",
    "NGGNN",
    "NGT",
    "Encoder",
    "FixedProbing",
    "FlatMLP",
    "InteractiveProbing",
    "Networks",
    "NeuronTransformer",
    "OnePass",
    "ProbeEncoder",
    "Probes",
    "Stack",
    "StatNN",
    "load_encoder",
    "save_encoder",
]
