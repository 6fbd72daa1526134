"""The solver: binds atoms to terms, as operations reveal what axes have in common.

Soundness over completeness: where two structures do not fit together, everything in them is pinned,
which loses symmetries but never invents one.
"""

from collections.abc import Iterable, Sequence

from ngopt.graph.nesting import beside, within
from ngopt.graph.terms import (
    ONE,
    Atom,
    Concat,
    Family,
    Product,
    Term,
    families,
    indices,
    join,
    leaves,
    same,
    segments,
    size,
)


class Solver:
    """Holds the atoms of one trace and what is known about them."""

    def __init__(self) -> None:
        self.atoms: list[Atom] = []

    def atom(self, size: int, pin: str = "", free: bool = False) -> Term:
        """Return a new atom, or `ONE` for a size of 1."""
        return ONE if size == 1 else self._new(size, pin, free)

    def _new(self, size: int, pin: str, free: bool) -> Atom:
        atom = Atom(size, pin, free)
        self.atoms.append(atom)
        return atom

    def _child(self, parent: Atom, size: int, contexts: list[frozenset[Atom]]) -> Atom:
        child = self._new(size, parent.pin, parent.free)
        child.contexts = contexts
        child.seen = parent.seen
        return child

    def pin(self, term: Term, reason: str) -> None:
        """Pin every atom of a term, unless it is pinned already."""
        for atom in leaves(term):
            atom.pin = atom.pin or reason

    def unify(self, a: Term, b: Term) -> None:
        """Record that two axes of one size run over the same indices."""
        rest: tuple[Term, Term] | None = (a, b)
        while rest is not None:  # Axes may have as many parts as a loop in the model has steps.
            rest = self._unify_first(*rest)

    def _unify_first(self, a: Term, b: Term) -> tuple[Term, Term] | None:
        """Unify the first parts of two axes, and return what is left of them, if anything."""
        if a is b:
            return None
        if size(a) != size(b):
            self._give_up(a, b)
            return None
        if same(a, b):
            return None
        parts_a, parts_b = segments(a), segments(b)
        if len(parts_a) == 1 and len(parts_a[0][0]) == 1 and isinstance(parts_a[0][0][0], Atom):
            self._bind(parts_a[0][0][0], b)
        elif len(parts_b) == 1 and len(parts_b[0][0]) == 1 and isinstance(parts_b[0][0][0], Atom):
            self._bind(parts_b[0][0][0], a)
        elif len(parts_a) == len(parts_b) == 1:
            self._unify_products(parts_a[0][0], parts_b[0][0])
        else:
            return self._align([items for items, _ in parts_a], [items for items, _ in parts_b])
        return None

    def _bind(self, atom: Atom, term: Term) -> None:
        for family in list(families(term)):
            self.collapse(family)
        if atom.bound is not None:  # collapsing has bound it
            self.unify(atom, term)
            return
        inner = list(leaves(term))
        if inner == [atom]:
            return
        if atom in inner:
            self._give_up(atom, term)
            return
        for leaf in inner:
            leaf.contexts = leaf.contexts + [context | set(inner) for context in atom.contexts]
            leaf.pin = leaf.pin or atom.pin
            leaf.free = leaf.free or atom.free
            if atom.seen is not None:
                leaf.seen = atom.seen if leaf.seen is None else min(leaf.seen, atom.seen)
        parts = segments(term)
        if len(parts) > 1:
            self._bind_concat(atom, [Product(items) for items, _ in parts])
        else:
            atom.bound = term

    def _bind_concat(self, atom: Atom, items: Sequence[Term]) -> None:
        # What was nested in the atom differs from part to part from now on. (What is pinned need
        # not be told apart.)
        nested = [
            a
            for a in self.atoms
            if a.bound is None and not a.pin and a is not atom and atom in within(a)
        ]
        atom.bound = Concat(tuple(items))
        for inner in nested:
            members = tuple(
                self._child(
                    inner, inner.size, [c - {atom} | set(leaves(part)) for c in inner.contexts]
                )
                for part in items
            )
            inner.bound = Family(atom, members)

    def collapse(self, family: Family) -> None:
        """Make a term the same in all parts of its index."""
        for member in family.members[1:]:
            self.unify(family.members[0], member)

    def _unify_products(self, a: Sequence[Term], b: Sequence[Term]) -> None:
        if not a or not b:
            return
        last_a, last_b = a[-1], b[-1]
        if size(last_a) == size(last_b):
            self._unify_items(last_a, last_b)
            self.unify(Product(tuple(a[:-1])), Product(tuple(b[:-1])))
            return
        if size(last_a) < size(last_b):
            a, b, last_a, last_b = b, a, last_b, last_a
        if isinstance(last_a, Atom) and size(last_a) % size(last_b) == 0:
            self.factor_atom(last_a, [size(last_a) // size(last_b), size(last_b)])
            self.unify(Product(tuple(a)), Product(tuple(b)))
        else:
            self._give_up(*a, *b)

    def _unify_items(self, a: Term, b: Term) -> None:
        if isinstance(a, Family) and isinstance(b, Family) and a.index is b.index:
            for one, other in zip(a.members, b.members, strict=True):
                self.unify(one, other)
            return
        for item in (a, b):
            if isinstance(item, Family):
                self.collapse(item)
        a, b = (item.members[0] if isinstance(item, Family) else item for item in (a, b))
        self.unify(a, b)

    def _align(
        self, a: list[tuple[Term, ...]], b: list[tuple[Term, ...]]
    ) -> tuple[Term, Term] | None:
        """Unify the beginning of two concatenations, cut where the other one has a boundary.

        Returns:
            What is left of them; None if they do not fit together.
        """
        size_a, size_b = size(Product(a[0])), size(Product(b[0]))
        if size_a < size_b:
            a, b, size_a, size_b = b, a, size_b, size_a
        if size_a > size_b and not self.cut(a[0], size_b):
            self._give_up(*(item for part in (*a, *b) for item in part))
            return None
        rest_a = [items for part in a for items, _ in segments(Product(part))]
        rest_b = [items for part in b for items, _ in segments(Product(part))]
        if size(Product(rest_a[0])) != size(Product(rest_b[0])):
            return join(rest_a), join(rest_b)
        self._unify_products(rest_a[0], rest_b[0])
        return join(rest_a[1:]), join(rest_b[1:])

    def cut(self, items: Sequence[Term], at: int) -> bool:
        """Split the leading atom of a product, so that a part ends at index `at`.

        Returns:
            Whether that was possible.
        """
        lead, step = items[0], size(Product(tuple(items[1:])))
        if not isinstance(lead, Atom) or at % step:
            return False
        first = at // step
        children = [self._child(lead, n, lead.contexts) for n in (first, lead.size - first)]
        self._bind_concat(lead, children)
        return True

    def shatter(self, atom: Atom) -> None:
        """Bind an atom to its single indices."""
        self._bind_concat(atom, [ONE] * atom.size)

    def factor_atom(self, atom: Atom, sizes: Sequence[int]) -> None:
        """Bind an atom to a product of new atoms, each nested in those before it."""
        children: list[Atom] = []
        for n in sizes:
            contexts = [context - {atom} | frozenset(children) for context in atom.contexts]
            children.append(self._child(atom, n, contexts))
        atom.bound = Product(tuple(children))

    def _give_up(self, *terms: Term) -> None:
        for term in terms:
            self.pin(term, "its uses do not fit together")

    def mix(self, axes: Sequence[Term], dims: Iterable[int]) -> None:
        """Record that an operation mixes along some axes, which ends nesting across them."""
        mixed = {atom for dim in dims for atom in leaves(axes[dim])}
        for axis in axes:
            for atom in leaves(axis):
                around = within(atom)
                if atom not in mixed and around & mixed:
                    atom.contexts = [*atom.contexts, frozenset(around - mixed)]

    def settle(self, axes: Sequence[Term]) -> None:
        """Record that a tensor with these axes exists: nothing is nested in what it lacks."""
        known = {index for axis in axes for index in indices(axis)}
        for axis in axes:
            for family in list(families(axis)):
                if family.index not in known:
                    self.collapse(family)
        for atom, around in beside(axes).items():
            # What the operation unified is known by now: keep the intersection.
            atom.contexts = [frozenset(within(atom) & around if atom.contexts else around)]
