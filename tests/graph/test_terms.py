import math

from hypothesis import given

from ngopt.graph.solver import Solver
from ngopt.graph.terms import (
    ONE,
    Atom,
    Concat,
    Family,
    Product,
    age,
    binding,
    families,
    indices,
    is_settled,
    join,
    leaves,
    same,
    segments,
    size,
    specialise,
)
from tests.graph.random_terms import SEEDS, SIZES, draw_moves, grow, order

A, B, C, D = Atom(2), Atom(3), Atom(4), Atom(3)


def items(term):
    return [found for found, _ in segments(term)]


def index(parts):
    return Atom(parts, bound=Concat((ONE,) * parts))


def test_sizes():
    assert size(ONE) == 1
    assert size(Concat(())) == 0
    assert size(Product((A, Concat((B, C))))) == 14
    assert size(Family(index(2), (B, D))) == 3


@given(SIZES, SEEDS)
def test_segments_are_the_term_in_another_form(n, draw):
    term = grow(Solver(), n, draw, depth=3)
    again = join(items(term))
    assert size(again) == size(term) == n
    assert same(again, term)
    assert set(leaves(again)) == set(leaves(term))
    moves = draw_moves([term], draw)
    assert order(again, moves) == order(term, moves)


def test_segments_of_nested_products_and_concatenations_are_flat():
    assert items(Product((A, Product((B, Product((C,))))))) == [(A, B, C)]
    assert items(Concat((A, Concat((B, Concat((C,))))))) == [(A,), (B,), (C,)]


def test_a_leading_concatenation_is_pulled_out():
    assert items(Product((Concat((A, B)), C))) == [(A, C), (B, C)]


def test_a_concatenation_behind_something_stays_inside():
    ((first, second),) = items(Product((A, Concat((B, C)))))
    assert first is A
    assert isinstance(second, Concat)
    assert items(second) == [(B,), (C,)]


def test_axes_of_size_one_leave_no_trace():
    assert items(ONE) == [()]
    assert items(Product((ONE, A, ONE))) == [(A,)]
    assert items(Atom(1)) == [()]
    assert list(leaves(Concat((ONE, A)))) == [A]


def test_bound_atoms_stand_for_what_they_are_bound_to():
    atom = Atom(6, bound=Product((A, B)))
    assert items(atom) == [(A, B)]
    assert list(leaves(Product((atom, C)))) == [A, B, C]
    assert same(atom, Product((A, B)))


def test_chains_of_bound_atoms_are_cut_short():
    last = Atom(3)
    middle = Atom(3, bound=last)
    first = Atom(3, bound=middle)
    assert list(leaves(first)) == [last]
    last.bound = B
    assert binding(first) is last or binding(first) is B
    assert list(leaves(first)) == [B]
    assert first.bound is B


def test_same_needs_the_same_structure():
    assert same(Product((A, B)), Product((A, Product((B,)))))
    assert not same(Product((A, B)), Product((B, A)))
    assert not same(Concat((A, B)), Concat((B, A)))
    assert not same(B, D)
    assert not same(Concat((A, A)), Product((Atom(2), A)))
    assert same(Product((A, Concat((B, C)))), Product((A, Concat((B, C)))))
    assert not same(Product((A, Concat((B, C)))), Product((A, Concat((D, C)))))


def test_families_are_resolved_by_their_index():
    i = index(2)
    family = Family(i, (B, D))
    assert items(Product((i, family))) == [(B,), (D,)]
    assert items(family) == [(family,)]
    assert specialise(family, {i: 1}) is D
    assert specialise(Product((A, family)), {i: 0}).items == (A, B)
    assert specialise(family, {index(2): 0}) is family


def test_specialising_changes_nothing_where_there_is_nothing_to_choose():
    for term in (A, Product((A, B)), Concat((A, B)), Atom(3, bound=B)):
        assert specialise(term, {index(2): 0}) is term


def test_families_of_one_member_are_settled():
    i = index(2)
    family = Family(i, (B, Atom(3, bound=B)))
    assert is_settled(family)
    assert not is_settled(Family(i, (B, D)))
    assert items(family) == [(B,)]
    assert list(leaves(family)) == [B]
    assert list(families(Product((A, family)))) == []
    assert same(family, B)


def test_a_name_for_a_settled_family_becomes_one_for_its_member():
    name = Atom(3, bound=Family(index(2), (B, B)))
    assert binding(name) is B


def test_what_families_and_indices_a_term_has():
    i = index(2)
    family = Family(i, (B, D))
    term = Product((A, Concat((family, Atom(6, bound=Product((i, D)))))))
    assert list(families(term)) == [family]
    assert list(indices(term)) == [i]


def test_families_with_the_same_index_and_members_are_the_same():
    i = index(2)
    assert same(Family(i, (B, D)), Family(i, (B, D)))
    assert not same(Family(i, (B, D)), Family(i, (D, B)))
    assert not same(Family(i, (B, D)), Family(index(2), (B, D)))


def test_what_was_never_seen_is_oldest():
    assert age(Atom(2, seen=5)) == 5
    assert math.isinf(age(Atom(2)))


def test_join_of_one_part_is_no_concatenation():
    assert items(join([(A, B)])) == [(A, B)]
    assert isinstance(join([(A, B)]), Product)
    assert items(join([(A,), (B,)])) == [(A,), (B,)]


def test_atoms_show_their_size_and_whether_they_are_pinned():
    assert repr(Atom(3)) == "<3>"
    assert repr(Atom(3, "input")) == "<3!>"
    assert repr(Atom(3, bound=A)) == "<2>"
