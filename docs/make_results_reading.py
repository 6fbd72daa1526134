"""Write `results_reading.md` from the reports of commands that train networks that read networks.

    python docs/make_results_reading.py runs/predict_probes runs/predict_common

Each folder is the `--out` of `python -m meta_train predict`, `edit`, `emulate` or `relational`; its
report becomes a section, in the given order, after the remarks in `results/reading.md`.
"""

import argparse
import re
from pathlib import Path

DOCS = Path(__file__).parent
HEADING = re.compile(r"^(#+) ", re.MULTILINE)


def section(folder: Path) -> str:
    """Return the report of a run, one level down.

    Raises:
        SystemExit: if there is none.
    """
    found = sorted(folder.glob("*.md"))
    if not found:
        raise SystemExit(
            f"there is no report in `{folder}`.\n  Give the --out of a command that has ended."
        )
    return HEADING.sub(r"#\1 ", found[0].read_text().strip())


def page(folders: list[Path]) -> str:
    """Return the whole page."""
    remarks = (DOCS / "results" / "reading.md").read_text().strip()
    return "\n\n".join([remarks, *map(section, folders)]) + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--page", type=Path, default=DOCS / "results_reading.md")
    options = parser.parse_args()
    options.page.write_text(page(options.folders))


if __name__ == "__main__":
    main()
