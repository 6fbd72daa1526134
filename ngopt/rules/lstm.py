"""The LSTM rule: a recurrent network over time, for each entry by itself."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.errors import RuleError
from ngopt.features.moments import compute_dtype
from ngopt.features.scale import LOG_SIGN, log_sign
from ngopt.graph.layout import Layout
from ngopt.nn.affine import Affine
from ngopt.nn.recurrent import LSTMCell
from ngopt.rules.tensor_rule import TensorRule


class LSTM(TensorRule):
    """The first learned optimizer: each entry's gradients drive an LSTM of its own.

    All entries share theta; each remembers its own hidden and cell states, `2 * layers * hidden`
    numbers. The input is the logarithm and the sign of the gradient. It makes no use of the graph.
    The factor 0.1 on the output in the paper is left to `lr`.

    Args:
        hidden: number of units of each layer.
        layers: number of layers.
        p: how many powers of e below 1 a gradient still counts as large; see
            :func:`~ngopt.features.scale.log_sign`.
        seed: of the draw of theta.

    Raises:
        RuleError: if an option makes no sense.

    Source: Andrychowicz et al., "Learning to learn by gradient descent by gradient descent",
    NeurIPS 2016.
    """

    def __init__(self, hidden: int = 20, layers: int = 2, p: float = 10.0, seed: int = 0) -> None:
        super().__init__()
        if hidden < 1 or layers < 1 or not p > 0:
            raise RuleError(
                f"LSTM got hidden={hidden}, layers={layers} and p={p}.\n"
                "  Give at least one unit, at least one layer, and a p above 0."
            )
        self._config = {"hidden": hidden, "layers": layers, "p": p, "seed": seed}
        self.p = p
        generator = torch.Generator().manual_seed(seed)
        inputs = [LOG_SIGN, *[hidden] * (layers - 1)]
        self.cells = nn.ModuleList(LSTMCell(size, hidden, generator) for size in inputs)
        self.output = Affine(hidden, 1, generator)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again."""
        return dict(self._config)

    def begin(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """Zero hidden and cell states `(*parameter.shape, layers * hidden)`."""
        size = int(self._config["layers"] * self._config["hidden"])
        zeros = parameter.new_zeros((*parameter.shape, size), dtype=compute_dtype(parameter))
        return {"hidden": zeros, "cell": zeros.clone()}

    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], layout: Layout
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take one step of the LSTM of each entry."""
        dtype = compute_dtype(parameter)
        x = log_sign(gradient.to(dtype), self.p)
        count = len(self.cells)
        before = [state[name].to(dtype).chunk(count, -1) for name in ("hidden", "cell")]
        after: list[tuple[Tensor, Tensor]] = []
        for run, hidden, cell in zip(self.cells, *before, strict=True):
            after.append(run(x, hidden, cell))
            x = after[-1][0]
        hiddens, cells = (torch.cat(states, -1) for states in zip(*after, strict=True))
        update = self.output(x).squeeze(-1).to(parameter.dtype)
        return update, {"hidden": hiddens, "cell": cells}
