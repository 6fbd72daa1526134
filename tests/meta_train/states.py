"""States of trainers, compared bit by bit."""

import torch

LEARNED = ("step", "theta", "outer", "stacks")
"""What must not depend on how often a run stopped, nor on how many processes shared it."""


def flat(state, path=()):
    """Leaves of nested dicts, lists and tuples, by path."""
    if isinstance(state, dict):
        pairs = state.items()
    elif isinstance(state, list | tuple):
        pairs = enumerate(state)
    else:
        return {path: state}
    return {key: leaf for name, item in pairs for key, leaf in flat(item, (*path, name)).items()}


def differences(first, second):
    """Paths at which two checkpoints differ in what was learned."""
    one, other = (flat({key: state[key] for key in LEARNED}) for state in (first, second))
    return [
        path
        for path in one.keys() | other.keys()
        if not (path in one and path in other and _same(one[path], other[path]))
    ]


def _same(one, other):
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and one == other
