"""Things named on the command line with their options: `name:key=value,key=value`."""

import ast
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from meta_train.errors import MetaTrainError

T = TypeVar("T")


class Spec(NamedTuple):
    """A name and options.

    Args:
        name: of a family or a rule, for example.
        options: by name; numbers, words, booleans, None, or tuples of them.
    """

    name: str
    options: dict[str, Any]


def parse(text: str) -> Spec:
    """Read a name with options; `|` separates the items of a tuple. Brackets are not split.

    Raises:
        MetaTrainError: if an option is no `key=value`.

    >>> parse("mlp:width=16|32,data=digits")
    Spec(name='mlp', options={'width': (16, 32), 'data': 'digits'})
    >>> parse("NGGNN")
    Spec(name='NGGNN', options={})
    >>> parse("MatrixGNN:base_update={'slow':2,'boost':8}")
    Spec(name='MatrixGNN', options={'base_update': {'slow': 2, 'boost': 8}})
    """
    name, _, rest = text.partition(":")
    options = {}
    for item in filter(None, _split(rest, ",")):
        key, equals, value = item.partition("=")
        if not (key and equals and value):
            raise MetaTrainError(
                f"cannot read `{item}` in `{text}`.\n"
                "  Write options as name:key=value,key=value; alternatives as key=1|2|3."
            )
        items = tuple(_value(part) for part in _split(value, "|"))
        options[key] = items if len(items) > 1 else items[0]
    return Spec(name, options)


def look_up(table: Mapping[str, T], name: str, kind: str) -> T:
    """Find what a name stands for.

    Args:
        table: of all that can be named.
        name: what was asked for.
        kind: of the things in the table, for the error, such as `activation`.

    Raises:
        MetaTrainError: if there is no such name.
    """
    if name not in table:
        raise MetaTrainError(
            f"there is no {kind} `{name}`.\n  Use one of: {', '.join(sorted(table))}."
        )
    return table[name]


def _split(text: str, separator: str) -> list[str]:
    """Split at a character, but not within brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == separator and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
