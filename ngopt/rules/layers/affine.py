"""An affine map that follows the dtype and device of its input."""

import torch
from torch import Tensor, nn


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
