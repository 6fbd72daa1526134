"""Affine maps and layer normalisation, which follow the dtype and device of their input."""

import torch
from torch import Tensor, nn

from ngopt.graph.incidence import Incidence


class Affine(nn.Module):
    """`x @ weight + bias`, computed in the dtype and on the device of `x`.

    Args:
        inputs: number of inputs.
        outputs: number of outputs.
        generator: draws the weight, uniform with variance `1 / (3 * inputs)`; all zeros without.
        bias: whether there is a bias; it starts at zero.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        generator: torch.Generator | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        weight = torch.zeros(inputs, outputs, dtype=torch.float32)
        if generator is not None:
            weight.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(outputs, dtype=torch.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., inputs)` to `(..., outputs)`."""
        result = x @ self.weight.to(x)
        if self.bias is None:
            return result
        # Weights of several runs have a dimension for them in front.
        bias = self.bias if self.bias.dim() == 1 else self.bias.unsqueeze(-2)
        return result + bias.to(x)


class PairAffine(nn.Module):
    """An affine map of a pair of nodes: of what is known of the pair and of each of the two.

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
        return self.of_pairs(pairs, *self.of_nodes(nodes, ends))

    def of_nodes(self, nodes: Tensor, ends: Incidence) -> tuple[Tensor, Tensor]:
        """What target and source contribute, `(group, out, outputs)` and `(group, in, outputs)`."""
        return self.target(nodes[ends.target]), self.source(nodes[ends.source])

    def of_pairs(self, pairs: Tensor, target: Tensor, source: Tensor) -> Tensor:
        """Add what :meth:`of_nodes` returned to what the pairs contribute."""
        result: Tensor = self.pair(pairs) + target.unsqueeze(2) + source.unsqueeze(1)
        return result


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over the last axis, then a learned gain and bias.

    Nothing is averaged over neurons, edges or models, so each of them is on its own. A constant
    input gives the bias, with a finite derivative.

    Args:
        width: size of the last axis.

    Source: Ba et al., "Layer normalization", 2016.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(width, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., width)` to `(..., width)`."""
        return nn.functional.layer_norm(
            x, self.weight.shape, self.weight.to(x), self.bias.to(x), eps=1e-5
        )
