"""The real learn2learn, also where torchvision is missing or was made for another torch.

learn2learn imports torchvision for its own image data sets, of which no test makes use. Where it
cannot be imported, learn2learn gets modules of empty classes in its place.
"""

import contextlib
import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

import pytest

_MODULES = ("torchvision", "torchvision.transforms", "torchvision.datasets",
            "torchvision.datasets.folder", "torchvision.datasets.omniglot")  # fmt: skip


class _Empty(ModuleType):
    """A module in which every name is an empty class."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextlib.contextmanager
def _torchvision():
    """Have something that can be imported as torchvision."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        made = {name: _Empty(name) for name in _MODULES}
        for name, module in made.items():
            # Without one, whoever asks whether there is such a package gets an error.
            module.__spec__ = ModuleSpec(name, None)
        before = {name: module for name, module in sys.modules.items() if _is_torchvision(name)}
        for name in before:
            del sys.modules[name]
        sys.modules.update(made)
        try:
            yield
        finally:
            for name in [name for name in sys.modules if _is_torchvision(name)]:
                del sys.modules[name]
    else:
        yield


def _is_torchvision(name):
    return name.partition(".")[0] == "torchvision"


def require():
    """Import learn2learn; the test is skipped where it is not installed."""
    if find_spec("learn2learn") is None:
        pytest.skip("learn2learn is not installed; see docs/learn2learn.md")
    with _torchvision():
        return importlib.import_module("learn2learn")
