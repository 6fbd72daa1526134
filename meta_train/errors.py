"""The error that meta-training raises. It says what was asked, why not, and what to do instead."""

from ngopt.errors import NgoptError


class MetaTrainError(NgoptError, ValueError):
    """A task, a configuration, a checkpoint or a process is not what meta-training needs."""
