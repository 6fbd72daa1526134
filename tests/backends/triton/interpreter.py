"""Triton that interprets its kernels, so that they run on the CPU; see `conftest.py`."""

import importlib.util
import os

import pytest

interpreted = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
    reason="needs Triton, and no GPU",
)
