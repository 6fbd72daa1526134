"""Diagnostics of a rule: what it decided in a step, parameter by parameter."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.features.neurons import ends
from ngopt.graph.bundle import Bundle
from ngopt.monitor.images import as_image, pooled
from ngopt.monitor.measures import rms
from ngopt.rules.rule import Rule


class BundleDiagnostics(NamedTuple):
    """What a rule decided about one bundle, detached from derivatives.

    Args:
        bundle: the bundle; most parameters have one, fused ones such as `in_proj_weight` several.
        scale: learned factor of its step, 0-dim. 1 for a fresh rule.
        correction: `(group * out, in)`, made smaller by averaging where it is large: how far the
            rule moved each entry away from the base direction, in units of that direction's RMS;
            root mean square over taps. From 0, a fresh rule's, to the base update's `trust`.
        correction_rms: the same over all entries, 0-dim.
        neurons: states of its output neurons, `(group * out, width)`, and of its input neurons,
            `(group * in, width)`; empty if the rule has none.
    """

    bundle: Bundle
    scale: Tensor
    correction: Tensor
    correction_rms: Tensor
    neurons: tuple[Tensor, ...]


class Diagnostics(dict[str, list[BundleDiagnostics]]):
    """Diagnostics of each parameter, one per bundle, from its last recorded step.

    Args:
        limit: rows and columns of a correction.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def neurons(self) -> dict[tuple[str, ...], Tensor]:
        """States `(neurons, width)` of each set of neurons, by the spaces whose product it is."""
        states = {}
        for entry in (
            entry for entries_of_parameter in self.values() for entry in entries_of_parameter
        ):
            for neurons, state in zip(ends(entry.bundle), entry.neurons, strict=False):
                if neurons:
                    states[neurons] = state
        return states

    def numbers(self) -> dict[str, Tensor]:
        """Learned factors `scale/NAME` and RMS of corrections `correction/NAME`, 0-dim."""
        result = {}
        for label, entry in self._labelled():
            result[f"scale/{label}"] = entry.scale
            result[f"correction/{label}"] = entry.correction_rms
        return result

    def totals(self) -> dict[str, Tensor]:
        """Means over all entries of the model, 0-dim; empty if the rule reported nothing.

        Returns:
            `scale`, the geometric mean of learned factors, and `correction`, the root mean square
            of corrections.
        """
        entries_of_parameter = [
            entry for entries_of_parameter in self.values() for entry in entries_of_parameter
        ]
        if not entries_of_parameter:
            return {}
        device = entries_of_parameter[0].scale.device
        logs = torch.stack([entry.scale.to(device).float().log() for entry in entries_of_parameter])
        sizes = torch.stack(
            [entry.correction_rms.to(device).float() for entry in entries_of_parameter]
        )
        entries = torch.tensor(
            [float(entry.bundle.numel) for entry in entries_of_parameter], device=device
        )
        share = entries / entries.sum()
        return {
            "scale": (share * logs).sum().exp(),
            "correction": (share * sizes.square()).sum().sqrt(),
        }

    def images(self) -> dict[str, Tensor]:
        """Pictures `(3, height, width)` of corrections and of states of neurons, to be shown.

        Returns:
            `correction/NAME`, a pixel per entry, yellow where it is 1 (the largest possible), and
            `neurons/SPACES`, a row per neuron, blue for -1 and red for 1.
        """
        result = {}
        for label, entry in self._labelled():
            result[f"correction/{label}"] = as_image(entry.correction, bound=1.0)
        for spaces, states in self.neurons().items():
            label = "*".join(spaces)
            result[f"neurons/{label}"] = as_image(states, diverging=True, bound=1.0)
        return result

    def _labelled(self) -> Iterator[tuple[str, BundleDiagnostics]]:
        for name, entries_of_parameter in self.items():
            for number, entry in enumerate(entries_of_parameter):
                yield name if len(entries_of_parameter) == 1 else f"{name}[{number}]", entry

    def add(
        self,
        name: str,
        bundle: Bundle,
        scale: Tensor,
        correction: Tensor,
        neurons: Sequence[Tensor],
    ) -> None:
        """Record the diagnostics of a bundle; see :class:`ngopt.rules.rule.DiagnosticsCallback`."""
        tensors = (scale, correction, *neurons)
        # Tensors wrapped by torch.func are meaningless outside of its transformation.
        if any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in tensors):
            return
        square = correction.detach().square()
        entry = BundleDiagnostics(
            bundle,
            scale.detach(),
            pooled(square.mean(3).flatten(0, 1), self.limit).sqrt(),
            rms(correction.detach()),
            tuple(state.detach().flatten(0, 1) for state in neurons),
        )
        before = [other for other in self.get(name, []) if other.bundle != bundle]
        self[name] = [*before, entry]


@contextmanager
def record_diagnostics(rule: Rule, limit: int = 64) -> Iterator[Diagnostics]:
    """Record the diagnostics of a rule, for as long as the context lasts.

    Updates stay the same to the last bit. Recording costs one more tensor of the size of a
    parameter at a time. Rules without a base update (hand-written ones, the published ones,
    networks with the paper's recipe) report nothing, nor do steps within a transformation of
    `torch.func` or in compiled code.

    Args:
        rule: the rule.
        limit: rows and columns of the recorded corrections; larger ones are averaged.

    Yields:
        The diagnostics, by name of the parameter; filled step by step.

    Example:
        >>> from ngopt import NeuralGraphOptimizer
        >>> from ngopt.rules import MatrixGNN
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = NeuralGraphOptimizer(model, rule=MatrixGNN())
        >>> model(torch.ones(1, 3)).sum().backward()
        >>> with record_diagnostics(optimizer.rule) as diagnostics:
        ...     optimizer.step()
        >>> diagnostics["weight"][0].scale
        tensor(1.)
    """
    seen, outer = Diagnostics(limit), rule.on_diagnostics
    rule.on_diagnostics = seen.add
    try:
        yield seen
    finally:
        rule.on_diagnostics = outer
