"""The outer optimizer: how theta moves along the meta-gradient."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from meta_train.errors import MetaTrainError
from ngopt.rules.rule import Rule


@dataclass(frozen=True)
class OuterOptions:
    """How theta moves along the meta-gradient: AdamW, warmed up, then along a cosine.

    Args:
        lr: largest learning rate.
        final: learning rate at the last outer step, as a fraction of `lr`.
        warmup: number of outer steps until the learning rate is reached.
        weight_decay: decoupled weight decay of theta.
        beta1: decay of the mean of meta-gradients.
        beta2: decay of the mean of their squares.
        clip: largest norm of the meta-gradient; longer ones are shortened.
        inputs: matrices of more inputs than this learn at a learning rate that is smaller by as
            much, so that all layers change what they put out by as much (the maximal update
            parametrization of Yang et al., 2022); 0 for the same learning rate everywhere.
        factors: what the learning rate is multiplied with for parts of theta, by the beginning of
            their names, such as `head`.
    """

    lr: float = 1e-3
    final: float = 0.0
    warmup: int = 20
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    inputs: int = 0
    factors: dict[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        sane = self.lr > 0 and 0 <= self.final <= 1 and self.warmup >= 0 and self.clip > 0
        sane = sane and self.weight_decay >= 0 and self.inputs >= 0
        sane = sane and all(factor > 0 for factor in self.factors.values())
        if not (sane and 0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise MetaTrainError(
                f"{self} makes no sense.\n  Use lr > 0, 0 <= final <= 1, warmup >= 0, clip > 0, "
                "weight_decay >= 0, inputs >= 0, factors > 0, and betas from 0 to below 1."
            )

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of an outer step, counted from 0, of `steps` in all.

        >>> options = OuterOptions(lr=1.0, warmup=2, final=0.5)
        >>> [round(options.rate(step, 12), 2) for step in (0, 1, 2, 7, 12)]
        [0.5, 1.0, 1.0, 0.75, 0.5]
        """
        return warmed_cosine(self.lr, step, steps, self.warmup, self.final)


class Outer:
    """Moves the theta of a rule.

    Args:
        rule: whose theta is learned.
        options: how.
    """

    def __init__(self, rule: Rule, options: OuterOptions) -> None:
        self.options = options
        self.theta = {n: p for n, p in rule.named_parameters() if p.requires_grad}
        if not self.theta:
            raise MetaTrainError(
                f"{type(rule).__name__} has no weights to learn.\n"
                "  Choose a rule with a network, such as MatrixGNN."
            )
        groups: dict[float, list[nn.Parameter]] = {}
        for name, weight in self.theta.items():
            groups.setdefault(self._factor(name, weight), []).append(weight)
        self._adam = torch.optim.AdamW(
            [{"params": weights, "factor": factor} for factor, weights in groups.items()],
            betas=(options.beta1, options.beta2),
            weight_decay=options.weight_decay,
        )

    def _factor(self, name: str, weight: Tensor) -> float:
        """What the learning rate of a weight is multiplied with."""
        factor = math.prod(f for part, f in self.options.factors.items() if name.startswith(part))
        if weight.dim() > 1 and self.options.inputs:
            factor *= min(1.0, self.options.inputs / weight.shape[0])  # Affine has inputs first.
        return float(factor)

    def step(self, gradient: Mapping[str, Tensor], step: int, steps: int) -> Tensor:
        """Move theta.

        Args:
            gradient: by name of the weight; finite.
            step: number of outer steps before.
            steps: number of outer steps in all.

        Returns:
            The norm of the gradient before clipping, 0-dim.
        """
        norm = nn.utils.get_total_norm([gradient[name] for name in self.theta])
        shortened = (self.options.clip / norm).clamp(max=1.0)
        for name, weight in self.theta.items():
            weight.grad = (gradient[name] * shortened).to(weight)
        for group in self._adam.param_groups:
            group["lr"] = group["factor"] * self.options.rate(step, steps)
        self._adam.step()
        self._adam.zero_grad()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Moments of the meta-gradient."""
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called."""
        # Checkpoints from before there were factors had none, and one group.
        groups = [{"factor": 1.0, **group} for group in state["param_groups"]]
        self._adam.load_state_dict({**state, "param_groups": groups})


def warmed_cosine(lr: float, step: int, steps: int, warmup: int, final: float) -> float:
    """Learning rate of a step: up along a line, then down along half a cosine.

    Args:
        lr: the largest one.
        step: counted from 0.
        steps: in all; later steps keep the last rate.
        warmup: number of steps until `lr` is reached.
        final: the last one, as a fraction of `lr`.

    >>> [round(warmed_cosine(1.0, step, 12, 2, 0.5), 2) for step in (0, 1, 2, 7, 12)]
    [0.5, 1.0, 1.0, 0.75, 0.5]
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return lr * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)
