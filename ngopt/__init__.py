"""A learned optimizer for PyTorch that sees the model being trained as a graph of its neurons."""

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.trace import trace

__all__ = ["NeuralGraph", "trace"]
