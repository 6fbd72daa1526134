"""Each tensor as a set of entries: what rules that tell rows from columns are measured against."""

from typing import Any

import torch
from torch import Tensor, nn

from ngopt.rules.layers.affine import Affine
from ngopt.rules.network_rule import NetworkRule
from ngopt.rules.rule import State
from ngopt.rules.scene import Scene
from ngopt.rules.sizes import check_sizes


class SetLayer(nn.Module):
    r"""The linear map of a set to a set that commutes with permutations of its elements.

    .. math::
        y_e = A x_e + B \operatorname{mean}_{e'} x_{e'} + c

    Args:
        inputs: number of features of an element.
        outputs: number of features of its image.
        generator: draws the weights.
    """

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.each = Affine(inputs, outputs, generator)
        self.all = Affine(inputs, outputs, generator, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., inputs)` to `(..., outputs)`; all dimensions but the last are the set."""
        result: Tensor = self.each(x) + self.all(x.flatten(0, -2).mean(0))
        return result


class DeepSets(NetworkRule):
    """Deep sets: layers that see an entry and the mean over all entries of its bundle.

    The network cannot tell rows from columns, and no tensor hears of another.

    Args:
        width: number of features of an entry in each layer.
        layers: number of layers, before an affine map to the outputs.
        options: `recipe`, `positions` and `seed`, as in
            :class:`~ngopt.rules.network_rule.NetworkRule`.

    Raises:
        RuleError: if an option makes no sense.

    Source: Zaheer et al., "Deep Sets", NeurIPS 2017; as a learned optimizer (32 units, 3 layers):
    Zhou et al., "Universal Neural Functionals", NeurIPS 2024.
    """

    def __init__(self, width: int = 32, layers: int = 3, **options: Any) -> None:
        super().__init__(**options)
        check_sizes("DeepSets", width=width, layers=layers)
        self.width = width
        self.layers = nn.ModuleList(
            SetLayer(width if number else self.entry_inputs, width, self.generator)
            for number in range(layers)
        )
        last = None if self.recipe.zero_outputs else self.generator
        self.last = Affine(width, self.recipe.outputs, last)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {"width": self.width, "layers": len(self.layers), **self.shared_config}

    def network(self, scene: Scene) -> tuple[list[Tensor], State]:
        """Run the network on each bundle."""
        result = []
        for x in scene.inputs():
            for layer in self.layers:
                x = nn.functional.relu(layer(x))
            result.append(self.last(x))
        return result, {}
