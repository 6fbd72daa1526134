"""Terms: what an axis of a tensor runs over, as far as the trace knows by now.

An axis starts as an unknown set of neurons (`Atom`). Operations reveal structure: a view splits it
into a product (heads x dimensions), a chunk into a concatenation (query, key, value parts), an
addition says that two are the same. The solver (:mod:`ngopt.graph.solver`) binds atoms to terms as
it learns; this module reads the result.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(eq=False)
class Atom:
    """A set of indices of which no structure is known, or (once bound) a name for another term.

    Args:
        size: number of indices.
        pin: why the indices cannot be permuted; empty if they can.
        free: whether the indices are not neurons (kernel taps, positions, gates).
        contexts: sets of atoms that this one may be nested in, one for each tensor it stands in; it
            is nested in those that stand in all of them. Nested means: permuted independently for
            each index of the others.
        bound: what the atom turned out to be.
        seen: order in which it first appeared in an activation; None if it never did.
    """

    size: int
    pin: str = ""
    free: bool = False
    contexts: list[frozenset["Atom"]] = field(default_factory=list)
    bound: "Term | None" = None
    seen: int | None = None

    def __repr__(self) -> str:
        return f"<{self.size}{'!' if self.pin else ''}>" if self.bound is None else f"{self.bound}"


@dataclass(frozen=True, eq=False)
class Product:
    """Row-major product: the last item varies fastest."""

    items: tuple["Term", ...]


@dataclass(frozen=True, eq=False)
class Concat:
    """Items one after another."""

    items: tuple["Term", ...]


@dataclass(frozen=True, eq=False)
class Family:
    """A term that differs from part to part of `index`, an atom bound to a `Concat`."""

    index: Atom
    members: tuple["Term", ...]


Term: TypeAlias = Atom | Product | Concat | Family
Choice: TypeAlias = Mapping[Atom, int]
"""For atoms bound to a `Concat`: which of its items is meant."""
Segment: TypeAlias = tuple[tuple[Term, ...], Choice]
"""A product of items (unbound atoms, inner `Concat`s, `Family`s), and the choices leading there."""

ONE = Product(())
"""The term of an axis of size 1."""


def size(term: Term) -> int:
    """Number of indices that a term runs over."""
    match term:
        case Atom():
            return term.size
        case Product():
            return math.prod(size(item) for item in term.items)
        case Concat():
            return sum(size(item) for item in term.items)
        case Family():
            return size(term.members[0])


def binding(atom: Atom) -> Term:
    """What a bound atom is bound to in the end.

    Chains of names for one another, as long as a loop in the model, and families found to be all
    the same are cut short.
    """
    chain: list[Atom] = []
    term: Term = atom
    while isinstance(term, Atom) and not (term.bound is None or isinstance(term.bound, Concat)):
        chain.append(term)
        term = _simple(term.bound)
    for link in chain:
        link.bound = term
    assert atom.bound is not None
    return atom.bound


def _simple(term: Term) -> Term:
    """The same term without what says nothing: products of one item, members all the same."""
    while True:
        if isinstance(term, Family) and is_settled(term):
            term = term.members[0]
            continue
        items = [i for i in term.items if i is not ONE] if isinstance(term, Product) else []
        if len(items) != 1:
            return term
        term = items[0]


def segments(term: Term, choice: Choice | None = None) -> list[Segment]:
    """Normal form of a term: a concatenation of products.

    Args:
        term: the term.
        choice: parts already chosen, so that `Family` terms can be resolved.
    """
    choice = choice or {}
    match term:
        case Atom(bound=None):
            return [((term,) if term.size > 1 else (), choice)]
        case Atom(bound=Concat(items=items)):
            return [
                segment
                for i, item in enumerate(items)
                for segment in segments(item, {**choice, term: i})
            ]
        case Atom():
            return segments(binding(term), choice)
        case Concat():
            return [segment for item in term.items for segment in segments(item, choice)]
        case Family():
            if term.index in choice:
                return segments(term.members[choice[term.index]], choice)
            if is_settled(term):
                return segments(term.members[0], choice)
            return [((term,), choice)]
        case Product():
            return _distribute(term, choice)
    raise AssertionError(term)


def _distribute(product: Product, choice: Choice) -> list[Segment]:
    result: list[Segment] = [((), choice)]
    for item in product.items:
        extended: list[Segment] = []
        for before, chosen in result:
            parts = segments(item, chosen)
            if len(parts) == 1 or not before:  # a leading concatenation can be pulled out
                extended += [(before + items, deeper) for items, deeper in parts]
            else:
                inner = Concat(tuple(Product(items) for items, _ in parts))
                extended.append(((*before, inner), chosen))
        result = extended
    return result


def leaves(term: Term) -> Iterator[Atom]:
    """All unbound atoms of more than one index, in order, each as often as it stands."""
    match term:
        case Atom(bound=None):
            if term.size > 1:
                yield term
        case Atom():
            yield from leaves(binding(term))
        case Family() if is_settled(term):
            yield from leaves(term.members[0])
        case Product(items=items) | Concat(items=items) | Family(members=items):
            for item in items:
                yield from leaves(item)


def specialise(term: Term, choice: Choice) -> Term:
    """Resolve the `Family` terms whose index is chosen."""
    match term:
        case Atom(bound=bound) if bound is not None:
            bound = binding(term)
            inner = specialise(bound, choice)
            return term if inner is bound else inner
        case Family():
            if term.index in choice:
                return specialise(term.members[choice[term.index]], choice)
            return _rebuild(term, term.members, choice, lambda m: Family(term.index, m))
        case Product():
            return _rebuild(term, term.items, choice, Product)
        case Concat():
            return _rebuild(term, term.items, choice, Concat)
    return term


def _rebuild(
    term: Term, items: tuple[Term, ...], choice: Choice, make: Callable[[tuple[Term, ...]], Term]
) -> Term:
    changed = tuple(specialise(item, choice) for item in items)
    return term if all(a is b for a, b in zip(changed, items, strict=True)) else make(changed)


def is_settled(family: Family) -> bool:
    """Whether the members turned out to be the same."""
    return all(same(family.members[0], member) for member in family.members[1:])


def same(a: Term, b: Term) -> bool:
    """Whether two terms are known to run over the same indices."""
    parts_a, parts_b = segments(a), segments(b)
    return len(parts_a) == len(parts_b) and all(
        len(items_a) == len(items_b) and all(map(_same_item, items_a, items_b))
        for (items_a, _), (items_b, _) in zip(parts_a, parts_b, strict=True)
    )


def _same_item(a: Term, b: Term) -> bool:
    if isinstance(a, Concat) and isinstance(b, Concat):
        return same(a, b)
    if isinstance(a, Family) and isinstance(b, Family) and a.index is b.index:
        return all(map(same, a.members, b.members))
    return a is b


def families(term: Term) -> Iterator[Family]:
    """All unresolved `Family` terms."""
    match term:
        case Atom(bound=bound) if bound is not None:
            yield from families(binding(term))
        case Family():
            if not is_settled(term):
                yield term
            for member in term.members:
                yield from families(member)
        case Product(items=items) | Concat(items=items):
            for item in items:
                yield from families(item)


def indices(term: Term) -> Iterator[Atom]:
    """All atoms bound to a `Concat`, which a `Family` may have as its index."""
    match term:
        case Atom(bound=bound) if bound is not None:
            if isinstance(bound, Concat):
                yield term
            yield from indices(binding(term))
        case Product(items=items) | Concat(items=items) | Family(members=items):
            for item in items:
                yield from indices(item)


def age(atom: Atom) -> float:
    """When an atom was first seen in an activation; infinite if it never was."""
    return float("inf") if atom.seen is None else atom.seen


def join(parts: Sequence[Sequence[Term]]) -> Term:
    """Concatenate products."""
    terms = tuple(Product(tuple(items)) for items in parts)
    return terms[0] if len(terms) == 1 else Concat(terms)
