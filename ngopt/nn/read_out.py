"""From the states of the nodes of many networks to one vector for each network."""

import torch
from torch import Tensor, nn

from ngopt.nn.affine import Affine
from ngopt.nn.feed_forward import FeedForward


class Pool(nn.Module):
    """Mean and maximum over the nodes of each kind, then a network.

    Args:
        width: size of a node's state.
        kinds: number of kinds of nodes.
        outputs: size of the result.
        generator: draws the weights.
    """

    def __init__(self, width: int, kinds: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.kinds = kinds
        self.head = FeedForward([2 * kinds * width, outputs, outputs], generator)

    def forward(self, x: Tensor, network: Tensor, kind: Tensor, networks: int) -> Tensor:
        """Read networks out.

        Args:
            x: states of the nodes, `(nodes, width)`.
            network: number of the network of each node, `(nodes,)`.
            kind: number of the kind of each node, `(nodes,)`.
            networks: number of networks.

        Returns:
            `(networks, outputs)`. Kinds that a network has no node of count as zeros.
        """
        index, size = network * self.kinds + kind, networks * self.kinds
        zeros = x.new_zeros(size, x.shape[1])
        counts = zeros[:, :1].index_add(0, index, x.new_ones(len(x), 1))
        mean = zeros.index_add(0, index, x) / counts.clamp(min=1)
        places = index.unsqueeze(1).expand_as(x)
        largest = zeros.scatter_reduce(0, places, x, "amax", include_self=False)
        result: Tensor = self.head(torch.cat([mean, largest], 1).view(networks, -1))
        return result


class AttentionPool(nn.Module):
    """Weighted means over all nodes, one for each head, then a network.

    Args:
        width: size of a node's state.
        outputs: size of the result.
        generator: draws the weights.
        heads: number of weighted means.
    """

    def __init__(
        self, width: int, outputs: int, generator: torch.Generator, heads: int = 4
    ) -> None:
        super().__init__()
        self.score = Affine(width, heads, generator)
        self.head = FeedForward([heads * width, outputs, outputs], generator)

    def forward(self, x: Tensor, network: Tensor, kind: Tensor, networks: int) -> Tensor:
        """Read networks out; see :meth:`Pool.forward`. Kinds make no difference."""
        score = self.score(x)
        places = network.unsqueeze(1).expand_as(score)
        top = score.detach().new_full((networks, score.shape[1]), -torch.inf)
        top = top.scatter_reduce(0, places, score.detach(), "amax")
        weight = torch.exp(score - top[network])
        total = torch.zeros_like(top).index_add(0, network, weight)
        share = weight / total[network]
        parts = (share.unsqueeze(2) * x.unsqueeze(1)).flatten(1)
        pooled = parts.new_zeros(networks, parts.shape[1]).index_add(0, network, parts)
        result: Tensor = self.head(pooled)
        return result


class Concatenation(nn.Module):
    """The states of some nodes beside each other, as many for each network, then a network.

    Args:
        width: size of a node's state.
        nodes: number of nodes of a network.
        outputs: size of the result.
        generator: draws the weights.
    """

    def __init__(self, width: int, nodes: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.head = FeedForward([nodes * width, outputs, outputs], generator)

    def forward(self, x: Tensor, networks: int) -> Tensor:
        """Read networks out.

        Args:
            x: states of the nodes, `(networks * nodes, width)`, network by network.
            networks: number of networks.

        Returns:
            `(networks, outputs)`.
        """
        result: Tensor = self.head(x.reshape(networks, -1))
        return result
