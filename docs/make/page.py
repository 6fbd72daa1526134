"""Pages that are written by hand, except for the blocks between markers.

A block is everything between `<!-- begin NAME, by python -m docs.make PAGE -->` and
`<!-- end NAME -->`. Other text of a page is never changed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meta_train.table import table_lines

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"(<!-- begin ([\w-]+), [^>]* -->\n)(.*?)(<!-- end \2 -->)", re.DOTALL)


def filled(text: str, blocks: Mapping[str, Sequence[str]]) -> str:
    """A page with the lines of some of its blocks replaced.

    Raises:
        SystemExit: if the page lacks one of the blocks.
    """
    missing = blocks.keys() - {match[2] for match in BLOCK.finditer(text)}
    if missing:
        name = min(missing)
        raise SystemExit(
            f"the page has no place for `{name}`.\n  Put it between two lines where it shall stand:"
            f"\n  <!-- begin {name}, by python -m docs.make PAGE -->\n  <!-- end {name} -->"
        )

    def block(match: re.Match[str]) -> str:
        if match[2] not in blocks:
            return match[0]
        inside = "\n".join(blocks[match[2]]).strip("\n")
        return f"{match[1]}\n{inside}\n\n{match[4]}" if inside else f"{match[1]}{match[4]}"

    return BLOCK.sub(block, text)


def fill(page: Path, blocks: Mapping[str, Sequence[str]]) -> None:
    """Replace the lines of some blocks of a page."""
    page.write_text(filled(page.read_text("utf-8"), blocks), "utf-8")


def rows(text: str, block: str) -> dict[str, list[str]]:
    """Cells of the table in a block of a page, by the first of each row."""
    inside = next(match[3] for match in BLOCK.finditer(text) if match[2] == block)
    lines = [line for line in inside.splitlines() if line.startswith("| ")][2:]
    cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    return {row[0]: row for row in cells}


def text_table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table of words, which is flush left."""
    first, _, *others = table_lines(head, cells)
    return [first, "| --- " * len(head) + "|", *others]


def section(report: str) -> list[str]:
    r"""Lines of a report as a section of a page: headings one level down.

    >>> section("# A report\n\n## A table")
    ['## A report', '', '### A table']
    """
    return re.sub(r"^(#+) ", r"#\1 ", report.strip(), flags=re.MULTILINE).splitlines()


def as_text(content: Mapping[str, Any]) -> str:
    """JSON text with a line for each value, and one for each entry of a list of objects."""

    def line(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(json.dumps(entry, allow_nan=False) for entry in value) + "\n]"
        return json.dumps(value, allow_nan=False)

    lines = ",\n".join(f"{json.dumps(key)}: {line(value)}" for key, value in content.items())
    return f"{{\n{lines}\n}}\n"
