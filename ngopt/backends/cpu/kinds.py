"""What an argument of a function of entries is: one number per entry, row, column, or in all."""

from enum import Enum

import torch

ROWS, COLUMNS = 5, 7
"""Sizes of the examples that functions are traced with; whatever else they are, they differ."""


class Kind(Enum):
    """How many numbers there are, as a shape that broadcasts."""

    ENTRY = (ROWS, COLUMNS)
    ROW = (ROWS, 1)
    COLUMN = (1, COLUMNS)
    SCALAR = ()

    @classmethod
    def of(cls, shape: torch.Size) -> "Kind":
        """The kind of an intermediate result."""
        return cls.SCALAR if shape.numel() == 1 else cls(tuple(shape))


class Use(Enum):
    """What becomes of a result."""

    STORE = "store"
    ROW_SUM = "row sum"
    COLUMN_SUM = "column sum"
    SUM = "sum"
