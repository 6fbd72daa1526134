"""All rules in one table: a new rule is one line in it (more, for its options)."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from ngopt.rules import (
    DWS,
    FF,
    LSTM,
    NFN,
    NGGNN,
    NGT,
    SGDM,
    AcrossLSTM,
    Adam,
    Celo2,
    DeepSets,
    MatrixGNN,
    Muon,
    SmallFC,
    StatNN,
)

RULES = {
    "across_lstm": lambda: AcrossLSTM(hidden=4),
    "across_lstm of the paper": lambda: AcrossLSTM(hidden=4, head_layers=2, recipe="paper"),
    "adam": Adam,
    "adam with options": lambda: Adam(betas=(0.8, 0.95), eps=1e-6, nesterov=True),
    "celo2": Celo2,
    "celo2 with options": lambda: Celo2(orthogonalize=False, exp_mult=0.1, bias_correction=False),
    "deep_sets": lambda: DeepSets(width=8),
    "dws": lambda: DWS(width=4, layers=3),
    "ff": lambda: FF(hidden=8),
    "ff of the paper": lambda: FF(hidden=8, recipe="paper"),
    "lstm": lambda: LSTM(hidden=4),
    "matrix_gnn": MatrixGNN,
    "matrix_gnn deep": lambda: MatrixGNN(
        5, 4, graph_sizes=True, learned_slow=True, momentum_dtype="float32"
    ),
    "matrix_gnn without context": lambda: MatrixGNN(graph_context=False, hidden=3, seed=3),
    "matrix_gnn whitened": lambda: MatrixGNN(
        base_update={"whitening_limit": 64, "late_slow": 2.0, "late_slow_reference": 3.0}
    ),
    "muon": Muon,
    "muon with options": lambda: Muon(
        nesterov=False, adjust="match_rms_adamw", adam_scale=0.5, hidden_only=True
    ),
    "nfn": lambda: NFN(width=4),
    "nfn of hidden neurons": lambda: NFN("hnp", width=4, io_embedding=False, recipe="paper"),
    "ng_gnn": lambda: NGGNN(width=6, layers=2),
    "ng_gnn of the paper": lambda: NGGNN(width=8, layers=3, scalers=False, recipe="paper"),
    "ng_gnn with memory": lambda: NGGNN(4, 1, aggregators=["mean"], recurrent=True),
    "ng_t": lambda: NGT(width=8, edge_width=4, heads=2),
    "ng_t of the paper": lambda: NGT(8, 4, layers=3, heads=4, head_layers=1, recipe="paper"),
    "sgdm": SGDM,
    "sgdm with options": lambda: SGDM(momentum=0.5, dampening=0.5, l2=0.1),
    "small_fc": lambda: SmallFC(hidden=(4, 4), step_mult=1.0),
    "stat_nn": lambda: StatNN(width=8),
}
"""What builds each rule, small where it can be: they all run on the whole zoo."""

every_rule = pytest.mark.parametrize("make", RULES.values(), ids=RULES)
"""Decorates a test that every rule passes."""


def every_rule_with(
    name: str, options: Mapping[str, Any], each: int, of: Iterable[str] = RULES
) -> pytest.MarkDecorator:
    """Decorate a test that every rule passes, each with some of several options, in turn.

    Args:
        name: argument of the test that takes an option; `make` takes what builds the rule.
        options: by their names in reports.
        each: number of options for each rule.
        of: names of the rules.
    """
    names = [*options]
    pairs = [
        (rule, names[(number * each + place) % len(names)])
        for number, rule in enumerate(of)
        for place in range(each)
    ]
    return pytest.mark.parametrize(
        ("make", name),
        [(RULES[rule], options[option]) for rule, option in pairs],
        ids=["-".join(pair) for pair in pairs],
    )
