"""The loss of language models."""

from torch import Tensor
from torch.nn.functional import cross_entropy


def next_character(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy, in nats per character.

    Args:
        logits: (batch, length, characters).
        targets: (batch, length) int64.
    """
    return cross_entropy(logits.flatten(0, 1), targets.flatten())
