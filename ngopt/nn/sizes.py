"""Checks of the sizes that networks are built with."""

from ngopt.errors import NgoptError


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
