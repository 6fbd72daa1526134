"""The errors that ngopt raises. Each says what was asked, why not, and what to do instead."""


class NgoptError(Exception):
    """Base class of every error that ngopt raises on purpose."""


class TraceError(NgoptError):
    """The computation of a model could not be followed."""


class GraphError(NgoptError, ValueError):
    """A graph does not fit the tensors it was asked to describe."""


class RuleError(NgoptError, ValueError):
    """A rule is unknown, damaged, or of another architecture than its weights."""


class EncoderError(NgoptError, ValueError):
    """Networks do not fit the encoder that is to read them, or its file is damaged."""


class OptionError(NgoptError, ValueError):
    """An option of the optimizer has a value that makes no sense."""


class GradientError(NgoptError, RuntimeError):
    """A gradient is of a kind that the optimizer cannot use (sparse, complex)."""


class CaptureError(NgoptError, RuntimeError):
    """A step cannot become part of a CUDA graph, or not yet."""


OF_DAMAGED_DATA = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What Python and torch raise where data from a file is not what it should be."""


def check_whole(error: type[NgoptError], network: str, **sizes: int) -> None:
    """Raise an error unless each of the sizes is a whole number of at least 1.

    Args:
        error: class of the error.
        network: name of what is built.
        sizes: its sizes, by the names of its arguments.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise error(
                f"{network} cannot be built with {name}={size!r}.\n"
                f"  Use whole numbers of at least 1 for {', '.join(sizes)}."
            )
