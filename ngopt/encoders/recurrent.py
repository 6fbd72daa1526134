"""Recurrent networks to be read: many LSTMs that run at once, word by word or over sequences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ngopt.encoders.networks import Stack
from ngopt.errors import EncoderError

State = tuple[tuple[Tensor, Tensor], ...]
"""Hidden and cell state of each layer, `(networks, sequences, hidden)` each."""


@dataclass(frozen=True)
class Layer:
    """One layer of many LSTMs; gates stand in torch's order.

    Args:
        inputs: weights of the inputs, `(networks, 4 * hidden, inputs)`.
        recurrent: weights of the hidden state, `(networks, 4 * hidden, hidden)`.
        bias: `(networks, 4 * hidden)`.
    """

    inputs: Tensor
    recurrent: Tensor
    bias: Tensor

    @property
    def hidden(self) -> int:
        """Number of neurons."""
        return self.recurrent.shape[-1]

    def from_inputs(self, x: Tensor) -> Tensor:
        """What inputs `(networks, rows, inputs)` add to the gates, `(networks, rows, 4 hidden)`."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.inputs.mT)

    def advance(self, gates: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Do one step, given what the inputs add to the gates; see :meth:`LSTMs.step`."""
        gates = torch.baddbmm(gates, hidden, self.recurrent.mT)
        enter, keep, _, show = gates.sigmoid().chunk(4, -1)
        new = gates[..., 2 * self.hidden : 3 * self.hidden].tanh()
        cell = torch.addcmul(keep * cell, enter, new)
        return show * cell.tanh(), cell


@dataclass(frozen=True)
class LSTMs:
    """LSTMs of one architecture with a linear read-out, all of which run at once.

    Made by :meth:`of` from a stack, or by :meth:`from_parameters`. Gradients flow to the weights
    and to the inputs.

    Args:
        layers: the LSTM's layers.
        read_out: weights of the read-out, `(networks, outputs, hidden)`.
        bias: its biases, `(networks, outputs)`.
    """

    layers: tuple[Layer, ...]
    read_out: Tensor
    bias: Tensor

    @classmethod
    def of(cls, stack: Stack) -> "LSTMs":
        """Run the networks of a stack, whose model must be an LSTM and a linear read-out.

        Raises:
            EncoderError: if the model is missing or another one.
        """
        if stack.model is None:
            raise EncoderError(
                "these networks cannot be run: their stack has no model.\n"
                "  Give the model when you stack them: Networks.stacked(graph, parameters, model)."
            )
        lstm, read_out = names_of(stack.model)
        return cls.from_parameters(stack.parameters, lstm, read_out)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Tensor], lstm: str, read_out: str) -> "LSTMs":
        """Take the stacked parameters, `(networks, *shape)`, of a model with these two modules.

        Args:
            parameters: by name.
            lstm: name of the `torch.nn.LSTM` in the model.
            read_out: name of the `torch.nn.Linear` after it.
        """
        layers: list[Layer] = []
        while f"{lstm}.weight_ih_l{len(layers)}" in parameters:
            inputs, recurrent, *biases = (
                parameters[f"{lstm}.{kind}_l{len(layers)}"]
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            layers.append(Layer(inputs, recurrent, biases[0] + biases[1]))
        return cls(tuple(layers), parameters[f"{read_out}.weight"], parameters[f"{read_out}.bias"])

    def __len__(self) -> int:
        return len(self.read_out)

    @property
    def inputs(self) -> int:
        """Number of numbers that a network reads in each step."""
        return self.layers[0].inputs.shape[-1]

    @property
    def outputs(self) -> int:
        """Number of numbers that a network answers in each step."""
        return self.read_out.shape[-2]

    def begin(self, sequences: int) -> State:
        """State before the first step of so many sequences for each network: zeros."""
        return tuple(
            (zeros, zeros)
            for layer in self.layers
            for zeros in [self.bias.new_zeros(len(self), sequences, layer.hidden)]
        )

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Do one step.

        Args:
            x: `(networks, sequences, inputs)`.
            state: before the step.

        Returns:
            Answers `(networks, sequences, outputs)`, as the read-out gives them, and the state
            after the step.
        """
        after = []
        for layer, before in zip(self.layers, state, strict=True):
            hidden, cell = layer.advance(layer.from_inputs(x), *before)
            after.append((hidden, cell))
            x = hidden
        return self.answer(x), tuple(after)

    def run(self, x: Tensor) -> Tensor:
        """Read whole sequences.

        Args:
            x: `(networks, sequences, length, inputs)`.

        Returns:
            Answers after each step, `(networks, sequences, length, outputs)`.
        """
        for layer, (hidden, cell) in zip(self.layers, self.begin(x.shape[1]), strict=True):
            hiddens: list[Tensor] = []
            # One product for all steps; what follows must go step by step.
            gates = layer.from_inputs(x.flatten(1, 2)).view(*x.shape[:3], -1)
            for of_step in gates.unbind(2):
                hidden, cell = layer.advance(of_step, hidden, cell)
                hiddens.append(hidden)
            x = torch.stack(hiddens, 2)
        return self.answer(x.flatten(1, 2)).view(*x.shape[:3], -1)

    def answer(self, hidden: Tensor) -> Tensor:
        """Read out the top layer's hidden states, `(networks, rows, hidden)`."""
        return torch.baddbmm(self.bias.unsqueeze(1), hidden, self.read_out.mT)


def names_of(model: nn.Module) -> tuple[str, str]:
    """Names of a model's LSTM and of its linear read-out.

    Raises:
        EncoderError: if the model is not made of one LSTM (in one direction, with biases, without
            projections) and one linear read-out of its outputs.
    """
    modules = dict(model.named_modules())
    lstms = [name for name, module in modules.items() if isinstance(module, nn.LSTM)]
    read_outs = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    others = _other_owners(modules, [*lstms, *read_outs])
    if len(lstms) == len(read_outs) == 1 and not others and _plain(modules[lstms[0]]):
        return lstms[0], read_outs[0]
    raise EncoderError(
        f"this {type(model).__name__} cannot be run step by step: it is not made of one "
        "torch.nn.LSTM (in one direction, with biases, without projections) and one "
        "torch.nn.Linear with a bias that reads its outputs.\n"
        "  Use such a model, or an encoder that does not probe, such as StatNN."
    )


def _other_owners(modules: Mapping[str, nn.Module], known: Sequence[str]) -> list[str]:
    """Modules that have parameters of their own, beside the known ones."""
    return [
        name
        for name, module in modules.items()
        if name not in known and next(module.parameters(recurse=False), None) is not None
    ]


def _plain(lstm: nn.Module) -> bool:
    assert isinstance(lstm, nn.LSTM)
    return bool(lstm.bias) and not lstm.bidirectional and not lstm.proj_size
