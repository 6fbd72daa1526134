"""Checks of the sizes that rules are built with."""

from functools import partial

from ngopt.errors import RuleError
from ngopt.nn.sizes import check_whole

check_sizes = partial(check_whole, RuleError)
"""Raises `RuleError` unless sizes are whole numbers of at least 1; see :func:`.check_whole`."""
