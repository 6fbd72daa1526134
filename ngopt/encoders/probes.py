"""Probes: learned inputs that are pushed through the networks themselves."""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from ngopt.encoders.encoder import Encoder, check_choice, check_sizes, check_some
from ngopt.encoders.networks import Networks, Stack
from ngopt.encoders.stack_outputs import Responses, outputs_of, responses_of
from ngopt.errors import EncoderError
from ngopt.graph.nodes import nodes_of
from ngopt.nn.affine import Affine
from ngopt.nn.feed_forward import Perceptron

ProbeKind: TypeAlias = Literal["none", "normal", "uniform", "generator"]

LATENT = 32
"""Size of the latent that a probe is generated from."""

GENERATOR_HIDDEN = 64


class Probes(nn.Module):
    """Inputs that are learned as weights are.

    Args:
        shape: of one input, without the examples; such as `(2,)` for an image's coordinates.
        count: number of probes.
        kind: `"normal"` probes start from a normal distribution, `"uniform"` ones between -1 and 1,
            `"generator"` ones are made of learned latents by two affine maps with nothing between
            them; `"none"` are no probes, for comparisons.
        seed: of the fresh weights; the global random state is left alone.

    Raises:
        EncoderError: if there is no such kind, or no probe is left.

    Source: Kofinas et al., ICLR 2024 (learned probes); Kahana et al., "Deep Linear Probe Generators
    for Weight Space Learning", ICLR 2025 (generated ones).
    """

    def __init__(
        self,
        shape: Sequence[int],
        count: int = 64,
        kind: ProbeKind = "generator",
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("Probes", "kind", kind, get_args(ProbeKind))
        if kind != "none":
            check_sizes("Probes", count=count)
        self.shape, self.kind, self.seed = tuple(shape), kind, seed
        self.count = 0 if kind == "none" else count
        generator = torch.Generator().manual_seed(seed)
        if kind == "generator":
            self.latents = nn.Parameter(torch.randn(count, LATENT, generator=generator))
            self.hidden = Affine(LATENT, GENERATOR_HIDDEN, generator)
            self.last = Affine(GENERATOR_HIDDEN, math.prod(self.shape), generator)
        elif kind == "normal":
            self.values = nn.Parameter(torch.randn(count, *self.shape, generator=generator))
        elif kind == "uniform":
            self.values = nn.Parameter(torch.rand(count, *self.shape, generator=generator) * 2 - 1)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build these probes again, as plain data."""
        return {
            "shape": list(self.shape),
            "count": self.count,
            "kind": self.kind,
            "seed": self.seed,
        }

    def forward(self) -> Tensor:
        """Return the inputs, `(count, *shape)`."""
        if self.kind == "none":
            return torch.zeros(0, *self.shape)
        if self.kind == "generator":
            made: Tensor = self.last(self.hidden(self.latents))
            return made.reshape(self.count, *self.shape)
        values: Tensor = self.values
        return values

    def outputs(self, stack: Stack) -> Tensor:
        """Outputs of networks on the probes, `(networks, count, *outputs)`; see `outputs_of`.

        Raises:
            EncoderError: also if there are no probes.
        """
        return outputs_of(stack, self._for(stack))

    def responses(self, stack: Stack) -> Responses:
        """Outputs and activations of networks on the probes; see `responses_of`.

        Raises:
            EncoderError: also if there are no probes.
        """
        return responses_of(stack, self._for(stack))

    def node_responses(self, stack: Stack) -> Tensor:
        """Activations of all nodes of networks on the probes.

        Returns:
            `(networks, nodes, count)`, in the order of :func:`ngopt.graph.nodes.nodes_of`; zeros
            for nodes that are no neurons. It moves with the neurons.

        Raises:
            EncoderError: as `responses_of`. Without probes there is nothing to run.
        """
        sets = nodes_of(stack.graph).sets
        like = next(iter(stack.parameters.values()))
        found = self.responses(stack).nodes if self.count else {}
        rows = [
            found[n] if n in found else like.new_zeros(len(stack), item.size, self.count)
            for n, item in enumerate(sets)
        ]
        return torch.cat(rows, 1)

    def _for(self, stack: Stack) -> Tensor:
        if not self.count:
            raise EncoderError(
                "there are no probes to run the networks on.\n  Use another kind than 'none'."
            )
        values: Tensor = self()
        return values.to(next(iter(stack.parameters.values())))


class ProbeEncoder(Encoder):
    """Encoder that reads only the responses of networks to probes.

    Args:
        shape: of one probe; see :class:`Probes`.
        outputs: how many numbers a network answers to one probe.
        width: size of the encoding.
        count: number of probes.
        kind: of the probes.
        hidden: number of hidden units of each layer of the network that reads the answers.
        layers: number of these layers.
        seed: of the fresh weights; the global random state is left alone.

    Source: Kahana et al., ICLR 2025.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        width: int = 64,
        *,
        count: int = 64,
        kind: ProbeKind = "generator",
        hidden: int = 256,
        layers: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(width, seed)
        check_sizes("ProbeEncoder", outputs=outputs, hidden=hidden, layers=layers)
        check_choice("ProbeEncoder", "kind", kind, get_args(ProbeKind)[1:])
        self.answers, self.hidden, self.layers = outputs, hidden, layers
        self.probes = Probes(shape, count, kind, seed=seed)
        sizes = [self.probes.count * outputs, *layers * [hidden], width]
        self.read = Perceptron(sizes, self.generator)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""
        return {
            "shape": list(self.probes.shape),
            "outputs": self.answers,
            "width": self.width,
            "count": self.probes.count,
            "kind": self.probes.kind,
            "hidden": self.hidden,
            "layers": self.layers,
            "seed": self.seed,
        }

    def encode(self, networks: Networks) -> Tensor:
        """Encode networks, `(networks, width)`. Permuting hidden neurons changes nothing.

        Raises:
            EncoderError: if the networks cannot be run on the probes, or give other numbers of
                outputs.
        """
        check_some(networks)
        return networks.in_order([self._encode(stack) for stack in networks])

    def _encode(self, stack: Stack) -> Tensor:
        outputs = self.probes.outputs(stack)
        if outputs[0, 0].numel() != self.answers:
            raise EncoderError(
                f"these networks answer a probe by {outputs[0, 0].numel()} numbers, and this "
                f"encoder reads {self.answers}.\n  Use ProbeEncoder(..., outputs="
                f"{outputs[0, 0].numel()})."
            )
        result: Tensor = self.read(outputs.flatten(1))
        return result
