"""Rules: networks and formulas that turn gradients into updates."""

from ngopt.rules.across_lstm import AcrossLSTM
from ngopt.rules.adam import Adam
from ngopt.rules.celo2 import Celo2
from ngopt.rules.deep_sets import DeepSets
from ngopt.rules.dws import DWS
from ngopt.rules.ff import FF
from ngopt.rules.lstm import LSTM
from ngopt.rules.matrix_gnn import MatrixGNN
from ngopt.rules.muon import Muon
from ngopt.rules.nfn import NFN
from ngopt.rules.ng_gnn import NGGNN
from ngopt.rules.ng_t import NGT
from ngopt.rules.rule import Rule
from ngopt.rules.sgdm import SGDM
from ngopt.rules.small_fc import SmallFC
from ngopt.rules.stat_nn import StatNN

__all__ = [
    "DWS",
    "FF",
    "LSTM",
    "NFN",
    "NGGNN",
    "NGT",
    "SGDM",
    "AcrossLSTM",
    "Adam",
    "Celo2",
    "DeepSets",
    "MatrixGNN",
    "Muon",
    "Rule",
    "SmallFC",
    "StatNN",
]
