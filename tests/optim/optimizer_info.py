"""How PyTorch's own tests of optimizers describe one: ngopt's entry for their table.

To run PyTorch's `TestOptimRenewed` (`test/test_optim.py` in its repository, of the version that is
installed) against ngopt, append `INFO` to `torch.testing._internal.common_optimizers.optim_db`
before that file is imported.
"""

import math

import torch
from torch.testing._internal.common_optimizers import (
    ErrorOptimizerInput,
    OptimizerInfo,
    OptimizerInput,
    get_error_inputs_for_all_optims,
)

from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam


def inputs(device, dtype=None):
    """Options to try, without parameters."""
    options = {
        "default": {},
        "non-default lr": {"lr": 0.01},
        "Tensor lr": {"lr": torch.tensor(0.001)},
        "nonzero weight_decay": {"weight_decay": 0.1},
        "maximize": {"maximize": True},
        "maximize, weight_decay": {"weight_decay": 0.1, "maximize": True},
        "without the graph": {"rule": "no_graph"},
        "rule of formulas": {"lr": 0.01, "rule": Adam()},
    }
    return [OptimizerInput(params=None, kwargs=given, desc=name) for name, given in options.items()]


def error_inputs(device, dtype):
    """Options that are refused, and how."""
    shared = [
        error
        for error in get_error_inputs_for_all_optims(device, dtype)
        # Tensors without names may stand beside some with names: they get a name of their own.
        if "with/without names" not in error.optimizer_error_input.desc
    ]
    for error in shared:
        # Torch warns that this will be an error in future; ours is one now.
        if error.error_type is UserWarning:
            error.error_type, error.error_regex = ValueError, "is given twice"
    options = {
        "lr should be finite": ({"lr": math.nan}, "lr"),
        "lr should not be negative": ({"lr": -1e-2}, "lr"),
        "weight_decay should not be negative": ({"weight_decay": -1.0}, "weight_decay"),
        "rule should be known": ({"rule": "unheard-of"}, "unheard-of"),
    }
    own = [
        ErrorOptimizerInput(
            OptimizerInput(params=None, kwargs=given, desc=name),
            error_type=ValueError,
            error_regex=regex,
        )
        for name, (given, regex) in options.items()
    ]
    return [*shared, *own]


INFO = OptimizerInfo(
    NeuralGraphOptimizer,
    optim_inputs_func=inputs,
    optim_error_inputs_func=error_inputs,
    supported_impls=(),
    not_og_supported_flags=(),
    supports_complex=False,
)
"""All devices and precisions; no sparse gradients, no complex parameters."""
