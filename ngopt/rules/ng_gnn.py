"""NG-GNN: message passing between the neurons along the weights, of the paper of neural graphs."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import silu

from ngopt.errors import RuleError
from ngopt.features.positions import NODE_POSITIONS
from ngopt.graph.layout import Layout
from ngopt.nn import pna_dense
from ngopt.nn.affine import Affine, PairAffine
from ngopt.nn.feed_forward import FeedForward
from ngopt.nn.pna import AGGREGATORS, Aggregate, PNALayer
from ngopt.rules.graph_inputs import GraphInputs
from ngopt.rules.layers.node_memory import NodeMemory
from ngopt.rules.network_rule import NetworkRule, check_sizes
from ngopt.rules.rule import State

BACKENDS = ("dense", "pyg")


class NGGNN(NetworkRule):
    """Message passing in which edges modulate the messages, and are updated themselves.

    A pair of neurons that a bundle joins is one edge, whatever the number of its kernel taps: its
    first state is the mean over taps of an embedding of the entries. After the layers
    (:class:`~ngopt.nn.pna.PNALayer`), a feed-forward network sees each entry's own
    features, the edge's state and the states of the two nodes. A bias is an edge from a node of its
    own.

    Args:
        width: size of the states of nodes and edges, and of the hidden layers of the head.
        layers: number of layers of message passing.
        head_layers: number of hidden layers of the head.
        aggregators: of `"mean"`, `"min"`, `"max"` and `"std"`.
        scalers: whether nodes also hear their aggregates scaled by log degree.
        reverse: whether messages also pass against the edges.
        edge_updates: whether edges are updated.
        recurrent: whether each neuron remembers its state from step to step, by a gated unit after
            the last layer. Neurons that no parameter's edges enter remember nothing.
        backend: `"dense"`, or `"pyg"` for messages computed by `torch_geometric`. Both compute the
            same.
        options: `recipe`, `positions` and `seed`, as in
            :class:`~ngopt.rules.network_rule.NetworkRule`.

    Raises:
        RuleError: if an argument makes no sense.

    Source: Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations of
    Neural Networks", ICLR 2024 (8 layers of 64 units, without scalers, there).
    """

    def __init__(
        self,
        width: int = 32,
        layers: int = 4,
        head_layers: int = 2,
        *,
        aggregators: Sequence[str] = AGGREGATORS,
        scalers: bool = True,
        reverse: bool = True,
        edge_updates: bool = True,
        recurrent: bool = False,
        backend: str = "dense",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.sizes = {"width": width, "layers": layers, "head_layers": head_layers}
        self.aggregators, self.backend = tuple(aggregators), backend
        self.switches = {"scalers": scalers, "reverse": reverse, "edge_updates": edge_updates}
        check_sizes("NGGNN", **self.sizes)
        _check(self.aggregators, backend)
        self.entry = Affine(self.entry_inputs, width, self.generator)
        self.node = Affine(NODE_POSITIONS, width, self.generator)
        self.layers = nn.ModuleList(
            PNALayer(width, self.aggregators, **self.switches, generator=self.generator)
            for _ in range(layers)
        )
        self.own = Affine(self.entry_inputs, width, self.generator, bias=False)
        self.around = PairAffine(width, width, width, self.generator)
        sizes = [*[width] * head_layers, self.recipe.outputs]
        self.head = FeedForward(sizes, self.generator, self.recipe.zero_outputs)
        self.memory = NodeMemory(width, self.generator) if recurrent else None

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {
            **self.sizes,
            **self.switches,
            "aggregators": list(self.aggregators),
            "recurrent": self.memory is not None,
            "backend": self.backend,
            **self.shared_config,
        }

    def begin_memory(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """What is remembered of the neurons that a parameter's edges enter, if anything is."""
        return {} if self.memory is None else self.memory.begin(parameter, layout)

    def network(self, graph_inputs: GraphInputs) -> tuple[list[Tensor], State]:
        """Pass messages, then look at each entry."""
        inputs = graph_inputs.entry_features()
        nodes = self.node(graph_inputs.positions)
        edges = [silu(self.entry(x)).mean(3) for x in inputs]
        aggregate = _aggregate(self.backend)
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, graph_inputs.ends, aggregate)
        remembered: State = {}
        if self.memory is not None:
            nodes, remembered = self.memory(graph_inputs, nodes)
        return self.read(graph_inputs, inputs, edges, nodes), remembered

    def read(
        self, graph_inputs: GraphInputs, inputs: list[Tensor], edges: list[Tensor], nodes: Tensor
    ) -> list[Tensor]:
        """Look at each entry.

        Args:
            graph_inputs: what the network sees.
            inputs: what is known of each entry without its neighbours.
            edges: states of each bundle's edges, `(group, out, in, width)`.
            nodes: states of all nodes, `(nodes, width)`.

        Returns:
            For each bundle the outputs, `(group, out, in, tap, recipe.outputs)`.
        """
        return [
            self.head(silu(self.own(x) + self.around(e, nodes, ends).unsqueeze(3)))
            for x, e, ends in zip(inputs, edges, graph_inputs.ends, strict=True)
        ]


def _aggregate(backend: str) -> Aggregate:
    if backend == "dense":
        return pna_dense.aggregate
    from ngopt.nn import pna_pyg  # takes seconds to import

    return pna_pyg.aggregate


def _check(aggregators: Sequence[str], backend: str) -> None:
    if not aggregators or len({*aggregators} & {*AGGREGATORS}) < len(aggregators):
        raise RuleError(
            f"NGGNN cannot aggregate messages by {list(aggregators)}.\n"
            f"  Use aggregators= one or more of {', '.join(AGGREGATORS)}, each once."
        )
    if backend not in BACKENDS:
        raise RuleError(
            f"NGGNN has no backend {backend!r}.\n  Use backend= one of: {', '.join(BACKENDS)}."
        )
