"""docs/results_reading.md: reports of commands that train networks that read networks."""

from collections.abc import Sequence
from pathlib import Path

from docs.make.page import DOCS, fill, section


def make(given: Sequence[str], page: Path = DOCS / "results_reading.md") -> None:
    """Put the report in each folder, an `--out` of a command, into the block of the folder's name.

    Raises:
        SystemExit: if there is no report, or the page has no such block.
    """
    fill(page, {Path(folder).name: report(Path(folder)) for folder in given})


def report(folder: Path) -> list[str]:
    """The report of a run without its title, in place of which the page asks a question."""
    found = sorted(folder.glob("*.md"))
    if not found:
        raise SystemExit(
            f"there is no report in `{folder}`.\n  Give the --out of a command that has ended."
        )
    return section(found[0].read_text("utf-8"))[1:]
