"""Ctrl-C during a run: an outer step that has begun is finished first, so that it can be saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class CtrlC:
    """Puts off Ctrl-C while something is done that must not be cut in two.

    A second Ctrl-C is not put off.

    Args:
        echo: shows a line of text.
        active: whether to put off at all; Ctrl-C is left alone otherwise, and outside of the main
            thread.

    Attributes:
        broken: whether a step was cut in two after all.
    """

    def __init__(self, echo: Callable[[str], None], active: bool = True) -> None:
        self._echo = echo
        self._active = active and threading.current_thread() is threading.main_thread()
        self._asked = False
        self.broken = False

    def __enter__(self) -> "CtrlC":
        if self._active:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Do not stop within the context, but after it.

        Raises:
            KeyboardInterrupt: after the context, if Ctrl-C was pressed in it.
        """
        self.broken = True
        yield
        self.broken = False
        if self._asked:
            raise KeyboardInterrupt

    def _handle(self, *_: Any) -> None:
        if not self.broken or self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._echo("Stopping after this outer step. Press Ctrl-C again to stop at once.")
