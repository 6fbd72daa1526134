import gc
import os
import random

import hypothesis
import numpy
import pytest
import torch

hypothesis.settings.register_profile("ngopt", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ngopt")

if not torch.cuda.is_available():
    # Read when Triton is imported, which other files like this one may do.
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_configure(config):
    torch.set_num_threads(1)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture
def fresh_compiler():
    """What torch.compile has compiled before, or compiles in this test, is forgotten."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def few_objects():
    """What is alive before the test does not count, and takes no time to be looked through."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _seeds():
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)
