"""NFN and DWS as encoders: layers that are linear and equivariant, on any graph."""

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from ngopt.encoders.batch import Batch
from ngopt.encoders.encoder import Example, check_choice, check_sizes
from ngopt.encoders.graph_encoder import GraphEncoder
from ngopt.nn.affine import Affine, PairAffine
from ngopt.nn.relations import (
    NODE_POOLS,
    RelationLayer,
    node_pools,
    pinned_indices,
    through_layers,
)

VARIANTS = ("np", "hnp")


class RelationEncoder(GraphEncoder):
    """Layers that are linear in the features of pairs of neurons; see :class:`.RelationLayer`.

    In the end a node is what enters and leaves it on average.

    Args:
        example: a graph or networks; needed for some of the options.
        width: number of features of a pair of neurons, and size of the encoding.
        layers: number of layers.
        options: see :class:`~ngopt.encoders.graph_encoder.GraphEncoder`.
    """

    def __init__(
        self, example: Example | None = None, width: int = 32, layers: int = 3, **options: Any
    ) -> None:
        check_sizes(type(self).__name__, width=width, layers=layers)
        self.depth = layers
        super().__init__(example, width=width, edge_width=width, **options)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""
        shared = self.shared_config
        del shared["edge_width"]
        return {"layers": self.depth, **shared}

    def build(self) -> None:
        """Make the layers."""
        width = self.width
        self.start = PairAffine(width, width, width, self.generator)
        self.layers = nn.ModuleList(self.layer() for _ in range(self.depth))
        self.end = Affine(NODE_POOLS * width, width, self.generator)

    @abstractmethod
    def layer(self) -> RelationLayer:
        """Make a layer."""

    @abstractmethod
    def activation(self, x: Tensor) -> Tensor:
        """What follows each layer."""

    def body(self, batch: Batch, nodes: Tensor, edges: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Compute features of pairs, and pool them at the nodes."""
        connectivity = batch.connectivity
        pairs = [self.start(x, nodes, end) for x, end in zip(edges, connectivity.ends, strict=True)]
        indices = pinned_indices(connectivity)
        pairs = through_layers(self.layers, self.activation, connectivity, pairs, indices)
        return self.end(node_pools(connectivity, pairs, by_bundle=True)), pairs


class NFN(RelationEncoder):
    """A neural functional network, generalised from layers in a row to any traced graph.

    Args:
        example: a graph or networks; needed for some of the options.
        variant: `"np"` treats inputs and outputs as it does hidden neurons, but for their
            embedding; `"hnp"` tells them apart in each layer.
        width: number of features of a pair of neurons, and size of the encoding.
        layers: number of layers.
        options: see :class:`~ngopt.encoders.graph_encoder.GraphEncoder`.

    Raises:
        EncoderError: if an option makes no sense.

    Source: Zhou et al., "Permutation Equivariant Neural Functionals", NeurIPS 2023; see
    :class:`ngopt.rules.NFN` for how its layers are generalised.
    """

    def __init__(
        self,
        example: Example | None = None,
        variant: str = "np",
        width: int = 32,
        layers: int = 3,
        **options: Any,
    ) -> None:
        check_choice("NFN", "variant", variant, VARIANTS)
        self.variant = variant
        super().__init__(example, width, layers, **options)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""
        return {"variant": self.variant, **super().config}

    def layer(self) -> RelationLayer:
        """Make a layer, in which each edge at a neuron counts alike."""
        pinned = self.variant == "hnp"
        return RelationLayer(self.width, self.width, self.generator, pinned=pinned)

    def activation(self, x: Tensor) -> Tensor:
        """SiLU."""
        return nn.functional.silu(x)


class DWS(RelationEncoder):
    """A deep weight-space network, generalised from layers in a row to any traced graph.

    Arguments are those of :class:`.RelationEncoder`.

    Source: Navon et al., "Equivariant Architectures for Learning in Deep Weight Spaces", ICML 2023;
    see :class:`ngopt.rules.DWS` for how its layers are generalised.
    """

    def layer(self) -> RelationLayer:
        """Make a layer, in which each bundle at a neuron counts alike."""
        sizes = self.width, self.width
        return RelationLayer(*sizes, self.generator, by_bundle=True, pinned=True)

    def activation(self, x: Tensor) -> Tensor:
        """ReLU."""
        return nn.functional.relu(x)
