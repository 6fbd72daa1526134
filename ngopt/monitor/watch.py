"""Look into a rule while it works: what it decided inside, parameter by parameter."""

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


class Insight(NamedTuple):
    """What a rule decided about one bundle, without derivatives.

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


class Seen(dict[str, list[Insight]]):
    """The insights of each parameter, one per bundle, in its last step that was watched.

    Args:
        limit: rows and columns of a correction.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def neurons(self) -> dict[tuple[str, ...], Tensor]:
        """States `(neurons, width)` of each set of neurons, by the spaces whose product it is."""
        states = {}
        for insight in (insight for insights in self.values() for insight in insights):
            for neurons, state in zip(ends(insight.bundle), insight.neurons, strict=False):
                if neurons:
                    states[neurons] = state
        return states

    def numbers(self) -> dict[str, Tensor]:
        """Learned factors `scale/NAME` and RMS of corrections `correction/NAME`, 0-dim."""
        result = {}
        for label, insight in self._labelled():
            result[f"scale/{label}"] = insight.scale
            result[f"correction/{label}"] = insight.correction_rms
        return result

    def totals(self) -> dict[str, Tensor]:
        """Means over all entries of the model, 0-dim; empty if the rule told nothing.

        Returns:
            `scale`, the geometric mean of learned factors, and `correction`, the root mean square
            of corrections.
        """
        insights = [insight for insights in self.values() for insight in insights]
        if not insights:
            return {}
        device = insights[0].scale.device
        logs = torch.stack([insight.scale.to(device).float().log() for insight in insights])
        sizes = torch.stack([insight.correction_rms.to(device).float() for insight in insights])
        entries = torch.tensor([float(insight.bundle.numel) for insight in insights], device=device)
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
        for label, insight in self._labelled():
            result[f"correction/{label}"] = as_image(insight.correction, bound=1.0)
        for spaces, states in self.neurons().items():
            label = "*".join(spaces)
            result[f"neurons/{label}"] = as_image(states, diverging=True, bound=1.0)
        return result

    def _labelled(self) -> Iterator[tuple[str, Insight]]:
        for name, insights in self.items():
            for number, insight in enumerate(insights):
                yield name if len(insights) == 1 else f"{name}[{number}]", insight

    def add(
        self,
        name: str,
        bundle: Bundle,
        scale: Tensor,
        correction: Tensor,
        neurons: Sequence[Tensor],
    ) -> None:
        """Take in what the rule tells; see :class:`ngopt.rules.rule.DiagnosticsCallback`."""
        told = (scale, correction, *neurons)
        # What torch.func has wrapped means nothing outside of its transformation.
        if any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in told):
            return
        square = correction.detach().square()
        insight = Insight(
            bundle,
            scale.detach(),
            pooled(square.mean(3).flatten(0, 1), self.limit).sqrt(),
            rms(correction.detach()),
            tuple(state.detach().flatten(0, 1) for state in neurons),
        )
        before = [other for other in self.get(name, []) if other.bundle != bundle]
        self[name] = [*before, insight]


@contextmanager
def watch(rule: Rule, limit: int = 64) -> Iterator[Seen]:
    """Record what a rule decides inside, for as long as the context lasts.

    The rule computes what it always computes, to the last bit; only a rule that is watched pays
    for it, with one more tensor of the size of a parameter at a time. Rules that decide nothing
    inside a bounded step (hand-written ones, the published ones, networks on the paper's recipe)
    record nothing, nor do steps within a transformation of `torch.func` or in compiled code.

    Args:
        rule: the rule.
        limit: rows and columns of the recorded corrections; larger ones are averaged.

    Yields:
        The insights, by the name that the rule's caller gives the parameter; filled step by step.

    Example:
        >>> from ngopt import NeuralGraphOptimizer
        >>> from ngopt.rules import MatrixGNN
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = NeuralGraphOptimizer(model, rule=MatrixGNN())
        >>> model(torch.ones(1, 3)).sum().backward()
        >>> with watch(optimizer.rule) as seen:
        ...     optimizer.step()
        >>> seen["weight"][0].scale
        tensor(1.)
    """
    seen, outer = Seen(limit), rule.on_diagnostics
    rule.on_diagnostics = seen.add
    try:
        yield seen
    finally:
        rule.on_diagnostics = outer
