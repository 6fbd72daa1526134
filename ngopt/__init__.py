"""A learned optimizer for PyTorch that sees the model being trained as a graph of its neurons."""

from contextlib import suppress

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.operations.patterns import register_operation
from ngopt.graph.permute import permute
from ngopt.graph.pyg import from_pyg, to_pyg
from ngopt.graph.trace import trace
from ngopt.monitor.monitor import Monitor
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.cards import rule_card
from ngopt.rules.library import list_rules, load_rule, save_rule

with suppress(ImportError):  # where `higher` is installed, it is told of the optimizer
    from ngopt.optim import differentiable  # noqa: F401

__all__ = [
    "Monitor",
    "NeuralGraph",
    "NeuralGraphOptimizer",
    "from_pyg",
    "list_rules",
    "load_rule",
    "permute",
    "register_operation",
    "rule_card",
    "save_rule",
    "to_pyg",
    "trace",
]
