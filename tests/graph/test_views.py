import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngopt.graph.solver import Solver
from ngopt.graph.terms import ONE, Concat, Family, Product, leaves, same, size, specialise
from ngopt.graph.views import cut_axis, factor, narrow, split_singly
from tests.graph.random_terms import SEEDS, SIZES, draw_moves, grow, order


def pins(*terms):
    return {atom.pin for term in terms for atom in leaves(term)}


def factorization(n, draw):
    sizes = []
    while n > 1:
        d = draw.choice([d for d in range(2, n + 1) if n % d == 0])
        sizes.append(d)
        n //= d
    sizes.insert(draw.randrange(len(sizes) + 1), 1)
    return sizes


@settings(max_examples=300)
@given(SIZES, SEEDS)
def test_factors_are_permuted_as_the_axis_was(n, draw):
    solver = Solver()
    term = grow(solver, n, draw)
    sizes = factorization(n, draw)
    factors = factor(solver, term, sizes)
    assert [size(item) for item in factors] == sizes
    moves = draw_moves([term, *factors], draw)
    assert order(Product(tuple(factors)), moves) == order(term, moves)
    if pins(term, *factors) <= {""}:
        assert same(Product(tuple(factors)), term)


@settings(max_examples=300)
@given(SIZES, SEEDS)
def test_a_range_is_permuted_as_it_was_in_the_axis(n, draw):
    solver = Solver()
    term = grow(solver, n, draw)
    start = draw.randrange(n)
    length = draw.randrange(1, n - start + 1)
    kept, _ = narrow(solver, term, start, length)
    assert size(kept) == length
    moves = draw_moves([term, kept], draw)
    part = order(term, moves)[start : start + length]
    assert [index - start for index in part] == order(kept, moves)


@given(SIZES, SEEDS)
def test_single_indices_cannot_move(n, draw):
    solver = Solver()
    term = solver.atom(n)
    split_singly(solver, term)
    assert size(term) == n
    assert list(leaves(term)) == []


def test_factoring_an_atom_splits_it():
    solver = Solver()
    heads, one, inner = factor(solver, solver.atom(12), [3, 1, 4])
    assert (size(heads), one, size(inner)) == (3, ONE, 4)
    assert pins(heads, inner) == {""}


def test_factoring_along_a_product_finds_its_items_again():
    solver = Solver()
    heads, inner = solver.atom(3), solver.atom(4)
    assert all(map(same, factor(solver, Product((heads, inner)), [3, 4]), [heads, inner]))


@pytest.mark.parametrize("sizes", [[4, 3, 2], [2, 6, 2]])
def test_a_view_across_the_structure_pins_all_of_it(sizes):
    solver = Solver()
    term = Product((solver.atom(3), solver.atom(4), solver.atom(2)))
    factors = factor(solver, term, sizes)
    assert pins(term, *factors) == {"an incompatible view splits it"}


def test_equal_parts_viewed_as_rows_differ_by_row():
    solver = Solver()
    parts = [solver.atom(4) for _ in range(3)]
    index, inner = factor(solver, Concat(tuple(parts)), [3, 4])
    assert isinstance(inner, Family)
    assert all(same(specialise(inner, {index: i}), part) for i, part in enumerate(parts))
    assert pins(index, inner) == {""}


def test_rows_chosen_of_such_a_view_are_the_parts():
    solver = Solver()
    parts = [solver.atom(4) for _ in range(3)]
    index, inner = factor(solver, Concat(tuple(parts)), [3, 4])
    row, choice = narrow(solver, index, 1, 1)
    assert size(row) == 1
    assert same(specialise(inner, choice), parts[1])


def test_a_range_across_parts_chooses_none():
    solver = Solver()
    index, _ = factor(solver, Concat(tuple(solver.atom(4) for _ in range(3))), [3, 4])
    rows, choice = narrow(solver, index, 1, 2)
    assert size(rows) == 2
    assert choice == {}


def test_the_whole_range_is_the_axis_itself():
    solver = Solver()
    term = solver.atom(5)
    assert narrow(solver, term, 0, 5) == (term, {})
    assert term.bound is None


def test_both_ends_of_an_axis_stay_hidden_when_it_is_cut():
    solver = Solver()
    term = solver.atom(5)
    head, _ = narrow(solver, term, 0, 2)
    tail, _ = narrow(solver, term, 2, 3)
    assert [*leaves(head), *leaves(tail)] == list(leaves(term))
    assert pins(term) == {""}


def test_a_range_of_a_pinned_axis_says_so():
    solver = Solver()
    pinned, _ = narrow(solver, solver.atom(5, "input"), 1, 2)
    free, _ = narrow(solver, solver.atom(5, "not neurons", free=True), 1, 2)
    assert pinned.pin == free.pin == "part of a pinned axis"
    assert (pinned.free, free.free) == (False, True)


def test_a_cut_between_boundaries_pins():
    solver = Solver()
    term = Product((solver.atom(3), solver.atom(4)))
    kept, choice = narrow(solver, term, 2, 4)
    assert choice == {}
    assert pins(term, kept) == {"a slice cuts it between boundaries"}


@given(st.integers(0, 6))
def test_cutting_at_a_boundary_changes_nothing(at):
    solver = Solver()
    parts = [solver.atom(2) for _ in range(3)]
    term = Concat(tuple(parts))
    assert cut_axis(solver, term, at)
    assert (list(leaves(term)) == parts) == (at % 2 == 0)
