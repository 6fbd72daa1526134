"""NG-GNN and NG-T as encoders: message passing or attention between neurons along the weights."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ngopt.encoders.batch import Batch
from ngopt.encoders.encoder import Example, check_sizes
from ngopt.encoders.graph_encoder import GraphEncoder
from ngopt.errors import EncoderError
from ngopt.nn import pna_dense
from ngopt.nn.chunks import at_once, by_chunks
from ngopt.nn.pna import AGGREGATORS, PNALayer
from ngopt.nn.relational_transformer import TransformerLayer


class NGGNN(GraphEncoder):
    """Message passing along the weights and against them, in which edges are updated themselves.

    See :class:`~ngopt.nn.pna.PNALayer`. The states of edges are narrower than those of nodes, which
    are fewer.

    Args:
        example: a graph or networks; needed for some of the options.
        width: size of the states of nodes and of the encoding.
        edge_width: size of the states of edges.
        layers: number of layers of message passing.
        aggregators: of `"mean"`, `"min"`, `"max"` and `"std"`. The mean alone needs no array of all
            messages, and is several times as fast as all four, which are the paper's.
        scalers: whether nodes also hear their aggregates scaled by log degree.
        reverse: whether messages also pass against the edges.
        edge_updates: whether edges are updated.
        options: see :class:`~ngopt.encoders.graph_encoder.GraphEncoder`.

    Raises:
        EncoderError: if an option makes no sense.

    Source: Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations of
    Neural Networks", ICLR 2024.
    """

    def __init__(
        self,
        example: Example | None = None,
        width: int = 32,
        layers: int = 3,
        *,
        edge_width: int = 8,
        aggregators: Sequence[str] = ("mean",),
        scalers: bool = True,
        reverse: bool = True,
        edge_updates: bool = True,
        **options: Any,
    ) -> None:
        check_sizes("NGGNN", layers=layers)
        if not aggregators or len({*aggregators} & {*AGGREGATORS}) < len(aggregators):
            raise EncoderError(
                f"NGGNN cannot aggregate messages by {list(aggregators)}.\n"
                f"  Use aggregators= one or more of {', '.join(AGGREGATORS)}, each once."
            )
        self.sizes: dict[str, Any] = {
            "layers": layers,
            "aggregators": list(aggregators),
            "scalers": scalers,
            "reverse": reverse,
            "edge_updates": edge_updates,
        }
        super().__init__(example, width=width, edge_width=edge_width, **options)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""
        return {**self.sizes, **self.shared_config}

    def build(self) -> None:
        """Make the layers of message passing."""
        sizes = dict(self.sizes)
        self.layers = nn.ModuleList(
            PNALayer(self.width, **layer, generator=self.generator, edge_width=self.edge_width)
            for layer in [sizes] * sizes.pop("layers")
        )

    def body(self, batch: Batch, nodes: Tensor, edges: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Pass messages."""
        # With the mean alone there are no messages, whose arrays are worth computing twice.
        apply = at_once if self.sizes["aggregators"] == ["mean"] else by_chunks
        aggregate = partial(pna_dense.aggregate, apply=apply)
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, batch.connectivity.ends, aggregate, apply)
        return nodes, edges


class NGT(GraphEncoder):
    """Transformer over neurons, which attend to those that they share an edge with.

    See :class:`~ngopt.nn.relational_transformer.TransformerLayer`.

    Args:
        example: a graph or networks; needed for some of the options.
        width: size of the states of nodes and of the encoding.
        layers: number of layers.
        heads: number of heads of the attention; divides `width`.
        edge_width: size of the states of edges.
        options: see :class:`~ngopt.encoders.graph_encoder.GraphEncoder`.

    Raises:
        EncoderError: if an option makes no sense.

    Source: `NG-T` of Kofinas et al., "Graph Neural Networks for Learning Equivariant
    Representations of Neural Networks", ICLR 2024.
    """

    def __init__(
        self,
        example: Example | None = None,
        width: int = 32,
        layers: int = 3,
        *,
        heads: int = 4,
        edge_width: int = 16,
        **options: Any,
    ) -> None:
        check_sizes("NGT", width=width, layers=layers, heads=heads)
        if width % heads:
            raise EncoderError(
                f"NGT got width={width} and heads={heads}, but the heads share the width equally."
                "\n  Use a number of heads that divides the width."
            )
        self.sizes = {"layers": layers, "heads": heads}
        super().__init__(example, width=width, edge_width=edge_width, **options)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""
        return {**self.sizes, **self.shared_config}

    def build(self) -> None:
        """Make the layers of the transformer."""
        sizes = self.width, self.edge_width, self.sizes["heads"]
        self.layers = nn.ModuleList(
            TransformerLayer(*sizes, self.generator) for _ in range(self.sizes["layers"])
        )

    def body(self, batch: Batch, nodes: Tensor, edges: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Attend along the edges."""
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, batch.connectivity.ends)
        return nodes, edges
