"""Views of axes: splitting an axis into factors, and keeping a range of it."""

from collections.abc import Sequence

from ngopt.graph.solver import Solver
from ngopt.graph.terms import (
    ONE,
    Atom,
    Choice,
    Concat,
    Family,
    Product,
    Term,
    indices,
    join,
    leaves,
    segments,
    size,
)


def factor(solver: Solver, term: Term, sizes: Sequence[int]) -> list[Term]:
    """Split an axis into a product of axes of the given sizes (a view).

    Args:
        solver: holds the atoms.
        term: the axis; its size is the product of `sizes`.
        sizes: from the slowest to the fastest index.
    """
    result: list[Term] = []
    whole = term
    for n in reversed(sizes):
        if n == 1:
            result.append(ONE)
            continue
        rest, last = _peel(solver, term, n)
        if last is None:
            solver.pin(whole, "an incompatible view splits it")
            return [solver.atom(n, "an incompatible view splits it") for n in sizes]
        term, result = rest, [*result, last]
    return result[::-1]


def _peel(solver: Solver, term: Term, n: int) -> tuple[Term, Term | None]:
    """Split off the fastest `n` indices; None if the structure has no boundary there."""
    if n == size(term):
        return ONE, term
    parts = segments(term)
    if len(parts) > 1:
        return _peel_concat(solver, [Product(items) for items, _ in parts], n)
    items, taken = list(parts[0][0]), list[Term]()
    while n > 1:
        last = items.pop()
        if n % size(last) == 0:
            taken.insert(0, last)
            n //= size(last)
        elif isinstance(last, Atom) and last.size % n == 0:
            solver.factor_atom(last, [last.size // n, n])
            assert isinstance(last.bound, Product)
            items.append(last.bound.items[0])
            taken.insert(0, last.bound.items[1])
            n = 1
        else:
            return term, None
    return Product(tuple(items)), Product(tuple(taken))


def _peel_concat(solver: Solver, parts: list[Term], n: int) -> tuple[Term, Term | None]:
    """A concatenation of equal parts, viewed as (parts, n): the inner axis differs by part."""
    if any(size(part) != n for part in parts):
        if len({size(part) for part in parts}) > 1 or size(parts[0]) % n:
            return ONE, None
        split = [_peel(solver, part, n) for part in parts]
        rests, lasts = [r for r, _ in split], [x for _, x in split if x is not None]
        if len(lasts) < len(parts):
            return ONE, None
        outer, inner = Concat(tuple(rests)), lasts
    else:
        outer, inner = Concat((ONE,) * len(parts)), parts
    index = Atom(size(outer), bound=outer)
    return index, Family(index, tuple(inner))


def narrow(solver: Solver, term: Term, start: int, length: int) -> tuple[Term, Choice]:
    """Keep a range of an axis (a slice).

    Returns:
        The axis of the range, and the parts that it fell into, for the `Family` terms of the
        other axes of the tensor.
    """
    if length == size(term):
        return term, {}
    if all(atom.pin for atom in leaves(term)) and not any(True for _ in indices(term)):
        free = all(atom.free for atom in leaves(term))
        return solver.atom(length, "part of a pinned axis", free), {}
    kept, position = [], 0
    for boundary in (start, start + length):
        if not cut_axis(solver, term, boundary):
            solver.pin(term, "a slice cuts it between boundaries")
            return solver.atom(length, "a slice cuts it between boundaries"), {}
    for items, choice in segments(term):
        if start <= position < start + length:
            kept.append((items, choice))
        position += size(Product(items))
    common = set.intersection(*(set(choice.items()) for _, choice in kept)) if kept else set()
    return join([items for items, _ in kept]), dict(common)


def cut_axis(solver: Solver, term: Term, at: int) -> bool:
    """Make index `at` of an axis the beginning of a part. Returns whether that was possible."""
    position = 0
    for items, _ in segments(term):
        n = size(Product(items))
        if position < at < position + n:
            lead = items[0]
            if isinstance(lead, Family):
                solver.collapse(lead)
                return cut_axis(solver, term, at)
            return solver.cut(items, at - position) and cut_axis(solver, term, at)
        position += n
    return True


def split_singly(solver: Solver, term: Term) -> None:
    """Cut an axis into single indices."""
    for items, _ in segments(term):
        if len(items) == 1 and isinstance(items[0], Atom):
            solver.shatter(items[0])
    for at in range(1, size(term)):
        cut_axis(solver, term, at)
