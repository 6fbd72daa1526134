"""The pages for readers, and the blocks of code in them."""

import re
import types
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from tests.docs.project import EXTRAS, ROOT

PAGES = [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
OUTPUT = re.compile(r"\n\n```text\n(.*?)^```", re.DOTALL | re.MULTILINE)

NAMES = {"scikit-learn": "sklearn"}
"""Of modules that are called otherwise than their packages."""

OPTIONAL = {"learn2learn"} | {
    NAMES.get(package, package)
    for extra in EXTRAS.values()
    for package in (re.match(r"[\w-]+", requirement)[0] for requirement in extra)
    if package != "ngopt"
}
"""Modules that ngopt does without."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        page: in which it stands.
        line: of the page, before its first.
        code: its text.
        output: what it prints; none if the page does not show it.
    """

    page: Path
    line: int
    code: str
    output: str | None = None

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line + 1}"


def blocks(page, *languages):
    """The blocks of a page in the given languages, in order."""
    text, found = page.read_text(), []
    for match in FENCE.finditer(text):
        if match[2] in languages:
            output = OUTPUT.match(text, match.end())
            line = text.count("\n", 0, match.start(3))
            found.append(Block(page, line, match[3], output and output[1]))
    return found


class MissingPackageError(Exception):
    """A block needs a package that ngopt does without, and that is not installed."""


class Reader:
    """Somebody who types in the blocks of a page, one after the other, into one console.

    Args:
        blocks: of the page.
        given: names that the page takes as known.
        shorter: texts, to what is run in their place, where the page's own takes long.
    """

    def __init__(self, blocks, given=(), shorter=()):
        self.waiting, self.shorter = list(blocks), dict(shorter)
        self.console = types.ModuleType("console")
        self.console.__dict__.update(given)

    def read(self, block):
        """Run a block after those before it, and return what it prints.

        Raises:
            MissingPackageError: if this block needs a package that is not there.
        """
        while block in self.waiting:
            following = self.waiting.pop(0)
            try:
                output = self._run(following)
            except MissingPackageError:
                if following == block:
                    raise
        return output

    def _run(self, block):
        code = block.code
        for text, other in self.shorter.items():
            code = code.replace(text, other)
        # Errors shall tell the line of the page.
        compiled = compile("\n" * block.line + code, str(block.page), "exec")
        try:
            with redirect_stdout(StringIO()) as printed:
                exec(compiled, self.console.__dict__)
        except Exception as error:
            package = _missing(error)
            if package not in OPTIONAL:
                raise
            raise MissingPackageError(f"{package} is not installed") from error
        return printed.getvalue()


def _missing(error):
    """Name of the package whose absence has caused an error; none if that is not the cause."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            return (error.name or "").partition(".")[0]
        error = error.__cause__
    return ""
