"""Encoders that probe recurrent networks: they read responses to inputs, not weights."""

from abc import abstractmethod
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from ngopt.encoders.encoder import Encoder, check_choice, check_sizes, check_some
from ngopt.encoders.networks import Networks, Stack
from ngopt.encoders.recurrent import LSTMs
from ngopt.errors import EncoderError
from ngopt.nn.affine import Affine

Probes: TypeAlias = Literal["tokens", "unit", "free"]
Answers: TypeAlias = Literal["probabilities", "free"]


class Probing(Encoder):
    """Common base of encoders that run recurrent networks on sequences of their own.

    A core, an LSTM, reads the answers of the sequences at each step; an affine map of its last
    hidden state is the encoding; both are computed in the dtype of the encoder. The networks are
    LSTMs with a linear read-out.

    Args:
        inputs: number of numbers that a network reads in each step.
        outputs: number of numbers that it answers.
        width: size of the encoding.
        units: of each layer of the core.
        layers: of the core.
        sequences: how many are read by a network at the same time.
        length: of a sequence.
        probes: what the networks read: `tokens` are probabilities (a softmax over the inputs),
            `unit` numbers are from 0 to 1, `free` ones from anywhere.
        answers: `probabilities` are a softmax of what the networks put out, which is read as it is
            if they are `free`.
        seed: of the first weights.

    Raises:
        EncoderError: if an option makes no sense.

    Source: Herrmann, Faccio and Schmidhuber, "Learning useful representations of recurrent neural
    network weight matrices", ICML 2024.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 16,
        units: int = 64,
        layers: int = 2,
        sequences: int = 1,
        length: int = 22,
        probes: Probes = "tokens",
        answers: Answers = "probabilities",
        seed: int = 0,
    ) -> None:
        super().__init__(width, seed)
        name = type(self).__name__
        check_sizes(name, inputs=inputs, outputs=outputs, units=units, layers=layers)
        check_sizes(name, sequences=sequences, length=length)
        check_choice(name, "probes", probes, get_args(Probes))
        check_choice(name, "answers", answers, get_args(Answers))
        self.inputs, self.outputs, self.units, self.layers = inputs, outputs, units, layers
        self.sequences, self.length = sequences, length
        self.probes, self.answers = probes, answers
        self.core = drawn_lstm(self._read_by_core(), units, layers, self.generator)
        self.read_out = Affine(units, width, self.generator)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""
        names = ("inputs", "outputs", "width", "units", "layers", "sequences", "length")
        return {name: getattr(self, name) for name in (*names, "probes", "answers", "seed")}

    def encode(self, networks: Networks) -> Tensor:
        """Ask all networks; `(networks, width)`.

        Raises:
            EncoderError: if they are no LSTMs that can be run, or read or answer other numbers.
        """
        check_some(networks)
        return networks.in_order([self._encode(self._runnable(stack)) for stack in networks])

    def _read_by_core(self) -> int:
        """Number of numbers that the core reads in each step."""
        return self.sequences * self.outputs

    @abstractmethod
    def _encode(self, networks: LSTMs) -> Tensor:
        """Encode networks of one architecture."""

    def _runnable(self, stack: Stack) -> LSTMs:
        networks = LSTMs.of(stack)
        if (networks.inputs, networks.outputs) != (self.inputs, self.outputs):
            raise EncoderError(
                f"this {type(self).__name__} asks networks with {self.inputs} inputs and "
                f"{self.outputs} outputs, but these have {networks.inputs} and "
                f"{networks.outputs}.\n  Build one for them."
            )
        return networks

    def _shaped(self, probes: Tensor) -> Tensor:
        """Bring raw probes, `(..., inputs)`, to what networks read."""
        if self.probes == "tokens":
            return probes.softmax(-1)
        return probes.sigmoid() if self.probes == "unit" else probes

    def _responses(self, answers: Tensor) -> Tensor:
        """Bring answers, `(..., outputs)`, to what the core reads."""
        answers = answers.to(self.read_out.weight)
        return answers.softmax(-1) if self.answers == "probabilities" else answers


class FixedProbing(Probing):
    """Asks every network the same: sequences that are learned (non-interactive probing).

    See :class:`~ngopt.encoders.probing.Probing` for the arguments.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shape = (self.sequences, self.length, self.inputs)
        self.asked = nn.Parameter(torch.randn(shape, generator=self.generator))

    def _encode(self, networks: LSTMs) -> Tensor:
        probes = self._shaped(self.asked).expand(len(networks), -1, -1, -1)
        responses = self._responses(networks.run(probes.to(networks.bias)))
        # The core reads, at each step, the answers of all sequences.
        hidden, _ = self.core(responses.transpose(1, 2).flatten(2))
        encoding: Tensor = self.read_out(hidden[:, -1])
        return encoding


class InteractiveProbing(Probing):
    """Asks every network what its answers so far suggest: the core puts out the next probe.

    See :class:`~ngopt.encoders.probing.Probing` for the arguments. Gradients go through the
    networks that are asked, so they can be very large: clip them, and use a smaller learning rate
    if training diverges.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ask = Affine(self.units, self.sequences * self.inputs, self.generator)

    def _read_by_core(self) -> int:
        return self.sequences * (self.outputs + self.inputs)

    def _encode(self, networks: LSTMs) -> Tensor:
        shape = (len(networks), self.sequences, self.inputs)
        state = networks.begin(self.sequences)
        responses = self.read_out.weight.new_zeros(len(networks), self._read_by_core())
        memory = None
        for _ in range(self.length):
            hidden, memory = self.core(responses.unsqueeze(1), memory)
            probes = self._shaped(self.ask(hidden[:, 0]).view(shape))
            answers, state = networks.step(probes.to(networks.bias), state)
            responses = torch.cat([self._responses(answers), probes], -1).flatten(1)
        hidden, _ = self.core(responses.unsqueeze(1), memory)
        encoding: Tensor = self.read_out(hidden[:, 0])
        return encoding


def drawn_lstm(inputs: int, units: int, layers: int, generator: torch.Generator) -> nn.LSTM:
    """Build an LSTM whose weights a generator draws, as torch draws them.

    Args:
        inputs: number of inputs.
        units: of each layer.
        layers: how many.
        generator: draws the weights.

    Returns:
        It takes `(batch, length, inputs)`.
    """
    lstm = nn.LSTM(inputs, units, layers, batch_first=True, device="meta").to_empty(device="cpu")
    for parameter in lstm.parameters():
        nn.init.uniform_(parameter, -(units**-0.5), units**-0.5, generator)
    return lstm
