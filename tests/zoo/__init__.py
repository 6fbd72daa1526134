"""The zoo: small models of every common kind, with the truth about their neurons.

Widths differ wherever they may, so that a size tells the space. Batch sizes and lengths do not: a
tracer that goes by sizes must fail here.
"""

from tests.zoo import (
    attention,
    convolution,
    feedforward,
    functional,
    libraries,
    recurrent,
    transformer,
    unusual,
)
from tests.zoo.entry import Entry

_FILES = (
    feedforward,
    convolution,
    recurrent,
    functional,
    attention,
    transformer,
    unusual,
    libraries,
)

ZOO: dict[str, Entry] = {
    name: value for file in _FILES for name, value in vars(file).items() if isinstance(value, Entry)
}
"""Every entry by name."""

__all__ = ["ZOO", "Entry"]
