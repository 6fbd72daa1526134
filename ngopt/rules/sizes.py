"""Checks of the sizes that networks are built with."""

from ngopt.errors import RuleError


def check_sizes(rule: str, **sizes: int) -> None:
    """Raise `RuleError` unless each of the sizes is a whole number of at least 1.

    Args:
        rule: name of the rule that is built.
        sizes: its sizes, by the names of its arguments.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise RuleError(
                f"{rule} cannot be built with {name}={size!r}.\n"
                f"  Use whole numbers of at least 1 for {', '.join(sizes)}."
            )
