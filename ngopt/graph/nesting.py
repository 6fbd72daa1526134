"""Nesting: which atoms of a tensor may be permuted independently for each index of which others."""

from collections import Counter
from collections.abc import Collection, Sequence

from ngopt.graph.terms import Atom, Concat, Family, Term, age, leaves, segments


def beside(axes: Sequence[Term]) -> dict[Atom, set[Atom]]:
    """For each atom of a tensor, the atoms of which an entry has exactly one index beside its own.

    Parts of a concatenation are not beside what is outside of it, and an atom that stands twice
    cannot tell which of the two is meant (unless one of them is on the same axis).
    """
    whole = [_whole(axis) for axis in axes]
    result: dict[Atom, set[Atom]] = {}
    for d, axis in enumerate(axes):
        _collect(axis, _once([a for e, atoms in enumerate(whole) for a in atoms if e != d]), result)
    return result


def _whole(axis: Term) -> list[Atom]:
    """The atoms that run over all of an axis."""
    parts = segments(axis)
    return [item for item in parts[0][0] if isinstance(item, Atom)] if len(parts) == 1 else []


def _once(atoms: Collection[Atom]) -> set[Atom]:
    return {atom for atom, times in Counter(atoms).items() if times == 1}


def _collect(term: Term, around: set[Atom], result: dict[Atom, set[Atom]]) -> None:
    for items, _ in segments(term):
        atoms = [item for item in items if isinstance(item, Atom)]
        near = _once(atoms) | (around - set(atoms))
        for item in items:
            if isinstance(item, Atom):
                result[item] = result.get(item, near) & near - {item}
            elif isinstance(item, Family):
                for member in item.members:
                    _collect(member, near, result)
            elif isinstance(item, Concat):
                _collect(item, near, result)


def within(atom: Atom) -> set[Atom]:
    """The unbound atoms that an unbound atom is nested in, as far as is known by now."""
    resolved = [{a for outer in context for a in leaves(outer)} for context in atom.contexts]
    return set.intersection(*resolved) - {atom} if resolved else set()


def nested(atom: Atom) -> set[Atom]:
    """Like :func:`within`; of two atoms that always stand together, the one met first is outer."""
    around = within(atom)
    return {a for a in around if atom not in within(a) or age(a) < age(atom)}
