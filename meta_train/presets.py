"""Configurations to begin with, by name."""

from dataclasses import replace
from pathlib import Path

from meta_train.board.options import BoardOptions
from meta_train.config import Config
from meta_train.meta_loss import MetaLoss
from meta_train.outer import OuterOptions
from meta_train.slots import Lengths
from meta_train.unroll.options import UnrollOptions

_DEFAULT = Config(
    families=("mlp:width=16|32,depth=1|2,activation=relu|tanh",),
    steps=800,
    stacks=1,
    problems=32,
    lengths=Lengths(60, 600),
    unroll=UnrollOptions(lr=3e-3, lr_spread=2.0),
    meta_loss=MetaLoss(scale="log"),
    outer=OuterOptions(lr=4e-3),
)
"""About half an hour on one CPU core for the default rule."""

_SMOKE = replace(
    _DEFAULT,
    steps=20,
    problems=4,
    truncation=10,
    lengths=Lengths(20, 100),
    checkpoint_every=10,
    board=BoardOptions(inner_steps=50, problems=2),
)

_PAPER = replace(
    _DEFAULT,
    steps=1000,
    families=("convnet:data=fashion_mnist,size=28,width=16,depth=3,activation=relu,batch=128",),
    estimator="greedy",
    problems=1,
    truncation=100,
    lengths=Lengths(100, 100),
    unroll=UnrollOptions(lr=0.01, measure="same"),
    meta_loss=MetaLoss(ceiling=100.0, scale="relative"),
    outer=OuterOptions(lr=3e-4, weight_decay=1e-4, warmup=0, beta2=0.999),
)
"""The setup of Kofinas et al. (ICLR 2024): 1,000 outer steps of 100 greedy inner steps."""

_RULES = {
    "matrix_gnn": "MatrixGNN",
    "no_graph": "MatrixGNN:graph_context=False",
    "ng_gnn": "NGGNN",
    "ng_t": "NGT",
    "nfn": "NFN",
    "dws": "DWS",
    "deep_sets": "DeepSets",
    "stat_nn": "StatNN",
    "across_lstm": "AcrossLSTM",
    "ff": "FF",
    "lstm": "LSTM",
    "mlp": "SmallFC",
    "celo2": "Celo2",
}

_CHANGES: dict[str, Config] = {
    # Entry by entry costs more than a graph of neurons: fewer runs, and more outer steps.
    "lstm": replace(_DEFAULT, steps=1600, problems=6, unroll=replace(_DEFAULT.unroll, lr=0.01)),
    "mlp": replace(_DEFAULT, problems=16, unroll=replace(_DEFAULT.unroll, lr=1.0)),
    "celo2": replace(_DEFAULT, problems=16, unroll=replace(_DEFAULT.unroll, lr=1e-3)),
}

_PAPERS = ("ng_gnn", "ng_t", "nfn", "across_lstm", "ff")


def _presets() -> dict[str, Config]:
    presets = {"default": _DEFAULT, "smoke": _SMOKE}
    for name, rule in _RULES.items():
        presets[name] = replace(_CHANGES.get(name, _DEFAULT), rule=rule)
    for name in _PAPERS:
        presets[f"paper_{name}"] = replace(_PAPER, rule=f"{_RULES[name]}:recipe=paper")
    return {
        name: replace(config, preset=name, folder=Path("runs") / name)
        for name, config in presets.items()
    }


PRESETS = _presets()
"""By name."""
