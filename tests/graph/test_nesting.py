import pytest

from ngopt.graph.nesting import beside, nested, within
from ngopt.graph.solver import Solver
from ngopt.graph.terms import ONE, Atom, Concat, Family, Product


def atoms(*sizes):
    return [Atom(n, seen=i) for i, n in enumerate(sizes)]


def test_axes_stand_beside_each_other():
    a, b, c = atoms(2, 3, 4)
    assert beside([a, b, c]) == {a: {b, c}, b: {a, c}, c: {a, b}}
    assert beside([a, ONE]) == {a: set()}
    assert beside([]) == {}


def test_items_of_a_product_stand_beside_each_other_and_other_axes():
    a, b, c = atoms(2, 3, 4)
    assert beside([Product((a, b)), c]) == {a: {b, c}, b: {a, c}, c: {a, b}}


def test_parts_of_a_concatenation_stand_beside_nothing_outside():
    a, b, c = atoms(2, 3, 4)
    assert beside([Concat((a, b)), c]) == {a: {c}, b: {c}, c: set()}


def test_an_atom_on_two_other_axes_is_not_beside():
    a, b = atoms(2, 3)
    assert beside([a, b, a]) == {a: {b}, b: set()}
    assert beside([a, a]) == {a: set()}


def test_of_an_atom_on_two_axes_the_one_on_the_same_axis_is_meant():
    heads, inner = atoms(3, 4)
    assert beside([Product((heads, inner)), heads]) == {heads: {inner}, inner: {heads}}


def test_an_atom_twice_on_one_axis_is_not_beside():
    a, b = atoms(2, 3)
    assert beside([Product((a, b, a))]) == {a: {b}, b: set()}


def test_inside_of_a_product_with_a_concatenation():
    a, b, c = atoms(2, 3, 4)
    assert beside([Product((a, Concat((b, c))))]) == {a: set(), b: {a}, c: {a}}


def test_members_of_a_family_stand_beside_what_it_does():
    a, b, c = atoms(5, 4, 4)
    index = Atom(2, bound=Concat((ONE, ONE)))
    assert beside([a, Family(index, (b, c))]) == {a: set(), b: {a}, c: {a}}


def test_within_is_what_all_contexts_share():
    a, b, c, d = atoms(2, 3, 4, 5)
    assert within(d) == set()
    d.contexts = [frozenset({a, b, d}), frozenset({b, c, d})]
    assert within(d) == {b}


def test_within_a_bound_atom_is_within_what_it_is_bound_to():
    a, b, outer, d = atoms(2, 3, 6, 5)
    outer.bound = Product((a, b))
    d.contexts = [frozenset({outer})]
    assert within(d) == {a, b}
    d.contexts.append(frozenset({b}))
    assert within(d) == {b}


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_that_always_stand_together_the_one_met_first_is_outer(first):
    a, b = atoms(2, 3)
    a.seen, b.seen = first, 1 - first
    a.contexts, b.contexts = [frozenset({b})], [frozenset({a})]
    assert (nested(a), nested(b)) == ((set(), {a}) if first == 0 else ({b}, set()))


def test_one_that_also_stands_alone_is_outer():
    heads, inner = atoms(3, 4)
    heads.seen, inner.seen = 1, 0
    solver = Solver()
    for axes in ([Product((heads, inner))], [heads]):
        solver.settle(axes)
    assert nested(inner) == {heads}
    assert nested(heads) == set()


def test_two_that_also_stand_alone_are_not_nested():
    a, b = atoms(3, 4)
    solver = Solver()
    for axes in ([a, b], [a], [b]):
        solver.settle(axes)
    assert nested(a) == nested(b) == set()
