"""An affine map of a pair of nodes: of what is known of the pair and of each of the two."""

import torch
from torch import Tensor, nn

from ngopt.graph.incidence import Incidence
from ngopt.rules.layers.affine import Affine


class PairAffine(nn.Module):
    """An affine map of pair, target and source beside each other.

    What the nodes contribute is computed once per node, not once per pair.

    Args:
        inputs: number of features of a pair.
        width: size of a node's state.
        outputs: number of outputs.
        generator: draws the weights.
    """

    def __init__(self, inputs: int, width: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.pair = Affine(inputs, outputs, generator)
        self.target = Affine(width, outputs, generator, bias=False)
        self.source = Affine(width, outputs, generator, bias=False)

    def forward(self, pairs: Tensor, nodes: Tensor, ends: Incidence) -> Tensor:
        """Compute the outputs of all pairs of a bundle.

        Args:
            pairs: features of the pairs, `(group, out, in, inputs)`.
            nodes: states of all nodes, `(nodes, width)`.
            ends: numbers of the nodes that the bundle joins.

        Returns:
            `(group, out, in, outputs)`.
        """
        target, source = self.target(nodes[ends.target]), self.source(nodes[ends.source])
        result: Tensor = self.pair(pairs) + target.unsqueeze(2) + source.unsqueeze(1)
        return result
