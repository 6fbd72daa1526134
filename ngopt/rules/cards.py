"""Cards: how the rule in a file came about, as JSON beside the file."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

from ngopt.errors import RuleError
from ngopt.rules.library import current_config, rule_path


def rule_card(name_or_path: str | PathLike[str]) -> dict[str, Any]:
    """Read the card of a rule: how it came about, and what it was measured to be good and bad at.

    Args:
        name_or_path: one of :func:`ngopt.list_rules`, or the path of a `.safetensors` file that
            `python -m meta_train export` wrote.

    Returns:
        Plain data. `rule`, `config`, `lr`, `weights` and `sha256` say what is in the file;
        `command`, `seed`, `tasks`, `cost` (outer and inner steps, seconds) and `meta_training` how
        it was meta-trained; `commit` and `torch` by which code it was exported; `results`, from
        `python -m meta_train evaluate`, and `known_weaknesses` what came of it.

    Raises:
        RuleError: if there is no such rule, or its card is missing or damaged.

    >>> rule_card("default")["rule"]
    'MatrixGNN'
    """
    path = card_path(rule_path(name_or_path))
    if not path.is_file():
        raise RuleError(
            f"the rule `{name_or_path}` has no card: there is no file `{path}`.\n"
            "  `python -m meta_train export` writes a rule and its card; keep them together."
        )
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # or nested deeper than anyone would write
        raise RuleError(f"the card `{path}` is damaged ({error}).\n  Copy it again.") from error
    if not isinstance(card, dict):
        raise RuleError(f"`{path}` holds a {type(card).__name__}, no card.\n  Copy it again.")
    if isinstance(card.get("config"), dict):
        card["config"] = current_config(card["config"])
    return card


def card_path(path: Path) -> Path:
    """Where the card of a rule's file is."""
    return path.with_suffix(".json")
