"""Make the parts of the documentation that come from measurements and data.

    python -m docs.make                      what is kept in docs/results/, and docs/images/step.png
    python -m docs.make PAGE [GIVEN ...]     one page, from what is given or measured anew

pages, and what they may be given:
    results [FILE.json ...]      results of `evaluate` and of the benchmarks paper, ablation and
                                 workloads; a smaller copy is kept in docs/results/
    results_reading FOLDER ...   runs of `predict`, `edit`, `emulate` and `relational`
    compatibility [tests] [trials] [FILE.xml ...] [PYLO]
                                 `tests` are run (20 minutes), or were (files of pytest --junitxml);
                                 `trials` are run, with PyLO if the folder of its package is given
    rules [NAME ...]             measures rules, by default all (half an hour)
    graphs                       measures the graphs of the zoo (two minutes)
    step                         draws docs/images/step.png
    board FOLDER                 takes docs/images/board.png of a meta-training run in Chromium
    monitor                      trains a convnet, and takes docs/images/monitor.png in Chromium
"""

import argparse
from importlib import import_module

KEPT = ("results", "compatibility")
"""What is made in seconds, from what is kept."""

PAGES = (*KEPT, "results_reading", "rules", "graphs", "board", "monitor")
"""Each is made by the module of its name."""


def main() -> None:
    """Read the command line and make pages."""
    parser = argparse.ArgumentParser(
        prog="docs.make", usage=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", choices=PAGES, nargs="?")
    parser.add_argument("given", nargs="*")
    options = parser.parse_args()
    for page in [options.page] if options.page else KEPT:
        import_module(f"docs.make.{page}").make(options.given)
        print(f"Made: {page}.")


if __name__ == "__main__":
    main()
