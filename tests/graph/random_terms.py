"""Random terms, and what a permutation of atoms does to an axis, by brute force."""

import random
from collections.abc import Iterable

from hypothesis import strategies as st

from ngopt.graph.solver import Solver
from ngopt.graph.terms import Atom, Concat, Family, Product, Term, leaves, size

Row = tuple[int, dict[Atom, int]]


def grow(solver: Solver, n: int, draw: random.Random, depth: int = 2) -> Term:
    """A random term of `n` indices, of new atoms."""
    kind = draw.choice(["atom", "product", "concat"]) if depth else "atom"
    divisors = [d for d in range(2, n) if n % d == 0]
    if kind == "product" and divisors:
        d = draw.choice(divisors)
        return Product(tuple(grow(solver, m, draw, depth - 1) for m in (n // d, d)))
    if kind == "concat" and n > 1:
        first = draw.randrange(1, n)
        return Concat(tuple(grow(solver, m, draw, depth - 1) for m in (first, n - first)))
    return solver.atom(n)


def draw_moves(terms: Iterable[Term], draw: random.Random) -> dict[Atom, list[int]]:
    """A random permutation of each atom that is not pinned."""
    atoms = {atom for term in terms for atom in leaves(term)}
    return {
        atom: list(range(atom.size)) if atom.pin else draw.sample(range(atom.size), atom.size)
        for atom in sorted(atoms, key=lambda atom: (atom.size, bool(atom.pin)))
    }


def order(term: Term, moves: dict[Atom, list[int]]) -> list[int]:
    """Where each index of an axis comes from, when its atoms are permuted."""
    return [index for index, _ in _rows(term, moves, {})]


def _rows(term: Term, moves: dict[Atom, list[int]], choice: dict[Atom, int]) -> list[Row]:
    match term:
        case Atom(bound=Concat(items=items)):
            rows = []
            for part, item in enumerate(items):
                before = sum(size(i) for i in items[:part])
                inner = _rows(item, moves, {**choice, term: part})
                rows += [(before + i, {**c, term: part}) for i, c in inner]
            return rows
        case Atom(bound=None):
            return [(i, choice) for i in moves.get(term, range(term.size))]
        case Atom():
            return _rows(term.bound, moves, choice)
        case Concat(items=items):
            starts = [sum(size(i) for i in items[:part]) for part in range(len(items))]
            return [
                (start + i, c)
                for start, item in zip(starts, items, strict=True)
                for i, c in _rows(item, moves, choice)
            ]
        case Family():
            return _rows(term.members[choice.get(term.index, 0)], moves, choice)
    rows = [(0, choice)]
    for item in term.items:
        rows = [(o * size(item) + i, d) for o, c in rows for i, d in _rows(item, moves, c)]
    return rows


SIZES = st.sampled_from([1, 2, 3, 4, 6, 8, 12])
SEEDS = st.integers(0, 10**6).map(random.Random)
