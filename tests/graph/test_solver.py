from hypothesis import given, settings

from ngopt.graph.nesting import within
from ngopt.graph.solver import Solver
from ngopt.graph.terms import ONE, Concat, Product, leaves, same, segments, size
from tests.graph.random_terms import SEEDS, SIZES, draw_moves, grow, order


def pins(*terms):
    return {atom.pin for term in terms for atom in leaves(term)}


def test_an_axis_of_size_one_is_no_atom():
    solver = Solver()
    assert solver.atom(1) is ONE
    assert solver.atom(1, "pinned") is ONE
    assert solver.atoms == []


@settings(max_examples=300)
@given(SIZES, SEEDS)
def test_unified_axes_are_permuted_alike(n, draw):
    solver = Solver()
    a, b, c = (grow(solver, n, draw) for _ in range(3))
    solver.unify(a, b)
    solver.unify(c, b)
    assert size(a) == size(b) == size(c) == n
    moves = draw_moves([a, b, c], draw)
    assert order(a, moves) == order(b, moves) == order(c, moves)
    if pins(a, b, c) <= {""}:
        assert same(a, b)


@given(SIZES, SEEDS)
def test_unifying_is_idempotent(n, draw):
    solver = Solver()
    a, b = grow(solver, n, draw), grow(solver, n, draw)
    solver.unify(a, b)
    before, known = [*leaves(a), *leaves(b)], len(solver.atoms)
    if pins(a, b) <= {""}:
        solver.unify(b, a)
        solver.unify(a, a)
        assert [*leaves(a), *leaves(b)] == before
        assert len(solver.atoms) == known
        assert pins(a, b) <= {""}


def test_an_atom_takes_over_structure():
    solver = Solver()
    whole, heads, inner = solver.atom(12), solver.atom(3), solver.atom(4)
    solver.unify(whole, Product((heads, inner)))
    assert list(leaves(whole)) == [heads, inner]
    assert pins(whole) == {""}


def test_products_are_split_where_the_other_is():
    solver = Solver()
    a = Product((solver.atom(6), solver.atom(4)))
    b = Product((solver.atom(3), solver.atom(8)))
    solver.unify(a, b)
    assert [atom.size for atom in leaves(a)] == [3, 2, 4]
    assert same(a, b)
    assert pins(a, b) == {""}


def test_concatenations_are_cut_where_the_other_is():
    solver = Solver()
    a = Concat((solver.atom(2), solver.atom(7)))
    b = Concat((solver.atom(5), solver.atom(4)))
    solver.unify(a, b)
    assert [atom.size for atom in leaves(a)] == [2, 3, 4]
    assert same(a, b)
    assert pins(a, b) == {""}


def test_structures_that_do_not_fit_are_pinned():
    solver = Solver()
    a = Product((solver.atom(3), solver.atom(4)))
    b = Product((solver.atom(4), solver.atom(3)))
    solver.unify(a, b)
    assert pins(a, b) == {"its uses do not fit together"}


def test_axes_of_two_sizes_are_pinned():
    solver = Solver()
    a, b = solver.atom(3), solver.atom(4)
    solver.unify(a, b)
    assert pins(a, b) == {"its uses do not fit together"}


def test_an_atom_cannot_be_a_part_of_itself():
    solver = Solver()
    a, b = solver.atom(4), solver.atom(4, "")
    solver.unify(b, Product((solver.atom(2), solver.atom(2))))
    first, second = leaves(b)
    solver.unify(a, Product((second, first)))
    solver.unify(a, b)
    moves = {first: [1, 0], second: [0, 1]}
    assert first.pin or order(a, moves) == order(b, moves)


def test_pins_and_freedom_spread_to_what_an_atom_is_bound_to():
    solver = Solver()
    pinned, free = solver.atom(6, "input"), solver.atom(6, "not neurons", free=True)
    a, b = solver.atom(6), Product((solver.atom(2), solver.atom(3)))
    solver.unify(pinned, a)
    solver.unify(free, b)
    assert pins(a) == {"input"}
    assert [atom.free for atom in leaves(b)] == [True, True]


def test_the_first_reason_of_a_pin_stays():
    solver = Solver()
    a = solver.atom(3)
    solver.pin(a, "first")
    solver.pin(Product((a, solver.atom(2))), "second")
    assert pins(a) == {"first"}


def test_factors_are_nested_in_those_before_them():
    solver = Solver()
    atom, other = solver.atom(24), solver.atom(5)
    solver.settle([atom, other])
    solver.factor_atom(atom, [2, 3, 4])
    heads, middle, inner = leaves(atom)
    assert within(heads) == {other}
    assert within(middle) == {other, heads}
    assert within(inner) == {other, heads, middle}


def test_nothing_is_nested_in_what_one_tensor_lacks():
    solver = Solver()
    atom = solver.atom(12)
    solver.settle([atom])
    solver.factor_atom(atom, [3, 4])
    heads, inner = leaves(atom)
    solver.settle([heads, inner])
    assert within(inner) == {heads}
    solver.settle([inner])
    assert within(inner) == set()


def test_mixing_ends_nesting_across_the_mixed_axis():
    solver = Solver()
    a, b, c = (solver.atom(n) for n in (2, 3, 4))
    solver.settle([a, b, c])
    assert within(c) == {a, b}
    solver.mix([a, b, c], [1])
    assert within(c) == {a}
    assert within(a) == {c}
    assert within(b) == {a, c}


def test_parts_of_a_concatenation_have_nesting_of_their_own():
    solver = Solver()
    outer, inner = solver.atom(5), solver.atom(4)
    solver.settle([outer, inner])
    solver.unify(outer, Concat((solver.atom(2), solver.atom(3))))
    first, second = leaves(outer)
    by_part = list(leaves(inner))
    assert [within(atom) for atom in by_part] == [{first}, {second}]
    solver.settle([inner])
    assert len(set(leaves(inner))) == 1
    assert within(next(leaves(inner))) == set()


def test_cutting_needs_a_leading_atom_and_a_whole_step():
    solver = Solver()
    lead, inner = solver.atom(6), solver.atom(4)
    assert not solver.cut((lead, inner), 6)
    assert not solver.cut((Concat((solver.atom(1), solver.atom(2))), inner), 4)
    assert solver.cut((lead, inner), 8)
    assert [size(Product(items)) for items, _ in segments(lead)] == [2, 4]
