"""Convolutional networks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CnnOptions:
    """Train."""

    networks: int = 3


def run_cnn(options: CnnOptions) -> None:
    """Do."""
