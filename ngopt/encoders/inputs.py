"""Inputs of encoders on the graph: initial features of entries and nodes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ngopt.encoders.batch import Batch
from ngopt.encoders.batch_graph import BUNDLE_KINDS, INPUT, OUTPUT
from ngopt.features.bundle_features import STRUCTURE
from ngopt.features.positions import NODE_POSITIONS, TAP_POSITIONS
from ngopt.graph.space import ACTIVATIONS
from ngopt.nn.affine import Affine
from ngopt.nn.relations import INDEX, pinned_indices


class Scale(nn.Module):
    """Brings the values of parameters to mean 0 and variance 1, as far as :meth:`fit` measured it.

    A value is multiplied by the root of its number of inputs first, so that layers of any size are
    alike. Until it is fitted that is all.

    Args:
        bundles: number of bundles, each of which has a mean and a size of its own; without, those
            of the same kind of layer share theirs.
    """

    def __init__(self, bundles: int | None = None) -> None:
        super().__init__()
        self.by_bundle = bundles is not None
        rows = BUNDLE_KINDS if bundles is None else bundles
        self.mean: Tensor
        self.size: Tensor
        self.register_buffer("mean", torch.zeros(rows))
        self.register_buffer("size", torch.ones(rows))

    def rows(self, batch: Batch) -> Tensor:
        """Which mean and size each bundle has, `(bundles,)`."""
        return batch.graph.numbers if self.by_bundle else batch.graph.kinds

    def forward(self, batch: Batch) -> list[Tensor]:
        """Return the values of all entries, arrays `(groups, out, in, tap)`."""
        row, like = self.rows(batch), batch.values[0]
        mean, size = self.mean.to(like)[row], self.size.to(like)[row]
        factor, shift = batch.graph.fan_in.sqrt() / size, -mean / size
        result = []
        for values, edges in zip(batch.values, batch.connectivity.edges, strict=True):
            f, s = factor[edges.bundle], shift[edges.bundle]
            result.append(torch.addcmul(s[:, None, None, None], values, f[:, None, None, None]))
        return result

    def fit(self, batch: Batch) -> None:
        """Measure mean and standard deviation of the entries of each row, over all networks."""
        row = self.rows(batch)
        total = torch.zeros(3, len(self.mean), dtype=torch.float64, device=row.device)
        for values, edges in zip(batch.values, batch.connectivity.edges, strict=True):
            x = values.double() * batch.graph.fan_in[edges.bundle].double().sqrt().view(-1, 1, 1, 1)
            sums = torch.stack([torch.ones_like(x), x, x.square()]).sum((2, 3, 4))
            total.index_add_(1, row[edges.bundle], sums)
        count, first, second = total
        mean = first / count.clamp(min=1)
        size = (second / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
        known = (size > 0).to(self.size.device)
        self.mean.copy_(torch.where(known, mean.to(self.mean), 0))
        self.size.copy_(torch.where(known, size.to(self.size), 1))


class EntryFeatures(nn.Module):
    """The value of an entry, or sines and cosines of it at random frequencies.

    Args:
        fourier: number of frequencies; 0 for the value itself.
        spread: standard deviation of the frequencies.
        generator: draws them.

    Source: Tancik et al., "Fourier features let networks learn high frequency functions in low
    dimensional domains", NeurIPS 2020.
    """

    def __init__(self, fourier: int, spread: float, generator: torch.Generator) -> None:
        super().__init__()
        self.count = 2 * fourier or 1
        self.frequencies: Tensor | None
        drawn = 2 * torch.pi * spread * torch.randn(fourier, generator=generator)
        self.register_buffer("frequencies", drawn if fourier else None)

    def forward(self, values: Tensor) -> Tensor:
        """Map `(...)` to `(..., count)`."""
        x = values.unsqueeze(-1)
        if self.frequencies is None:
            return x
        angles = x * self.frequencies.to(x)
        return torch.cat([angles.sin(), angles.cos()], -1)


class EntryMap(nn.Module):
    """An affine map of all that is known of an entry: features, tap, and features of its bundle.

    Args:
        features: number of features of an entry.
        outputs: number of outputs.
        generator: draws the weights.
    """

    def __init__(self, features: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.entry = Affine(features, outputs, generator, bias=False)
        self.tap = Affine(TAP_POSITIONS, outputs, generator, bias=False)
        self.bundle = Affine(STRUCTURE, outputs, generator)

    def forward(self, batch: Batch, features: Sequence[Tensor]) -> list[Tensor]:
        """Map the features of all entries.

        Args:
            batch: the networks.
            features: arrays `(groups, out, in, tap, features)`.

        Returns:
            Arrays `(groups, out, in, tap, outputs)`.
        """
        of_bundle = self.bundle(batch.graph.structure)
        result = []
        for x, edges, taps in zip(
            features, batch.connectivity.edges, batch.graph.taps, strict=True
        ):
            known = of_bundle[edges.bundle][:, None, None, None] + self.tap(taps)
            result.append(self.entry(x) + known)
        return result


class NodeMap(nn.Module):
    """An affine map of all that is known of a node without its edges.

    Args:
        width: number of outputs.
        generator: draws the weights.
        activations: whether activation functions are features.
        index: whether inputs and outputs of a network hear of their relative index.
        inputs: number of inputs of a network, each of which has an embedding of its own; 0 for
            none.
        outputs: the same for its outputs.
    """

    def __init__(
        self,
        width: int,
        generator: torch.Generator,
        *,
        activations: bool,
        index: bool,
        inputs: int = 0,
        outputs: int = 0,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.position = Affine(NODE_POSITIONS, width, generator)
        self.activation = Affine(len(ACTIVATIONS), width, generator, False) if activations else None
        self.index = Affine(INDEX, width, generator, False) if index else None
        drawn = torch.randn(inputs + outputs, width, generator=generator)
        self.ends = nn.Parameter(drawn) if inputs + outputs else None

    def forward(self, batch: Batch) -> Tensor:
        """Return the first states of all nodes, `(nodes, width)`."""
        batch_graph = batch.graph
        x: Tensor = self.position(batch_graph.positions)
        if self.activation is not None:
            x = x + self.activation(batch_graph.activations)
        if self.index is not None:
            x = x + self.index(pinned_indices(batch_graph.connectivity))
        if self.ends is not None:
            table = torch.cat([self.ends.to(x), x.new_zeros(1, x.shape[1])])
            row = torch.where(batch_graph.roles == INPUT, batch_graph.places, len(self.ends))
            outputs = batch_graph.roles == OUTPUT
            x = x + table[torch.where(outputs, self.inputs + batch_graph.places, row)]
        return x
