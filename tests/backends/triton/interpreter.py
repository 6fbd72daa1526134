"""Triton that interprets its kernels, so that they run on the CPU; see `conftest.py`."""

import os

import pytest

pytest.importorskip("triton", reason="needs triton")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("on a GPU, kernels are not interpreted", allow_module_level=True)

from ngopt.backends.triton.kernel import Kernel

__all__ = ["Kernel"]
