import pytest
import torch

from ngopt.rules import alike
from ngopt.rules.alike import each, groups


def moved(tensor, named):
    return {"sum": tensor.sum() + named["a"], "same": tensor}, tensor.square()


def runs(count, size=3):
    return [(torch.randn(size), {"a": torch.randn(())}) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_is_one_by_one(count):
    given = runs(count)
    with torch.no_grad():
        torch.testing.assert_close(each(moved, given), [moved(*run) for run in given])


def test_results_lie_in_memory_of_their_own():
    found = each(moved, runs(3))
    storages = {tensor.untyped_storage().data_ptr() for _, tensor in found}
    assert len(storages) == 3
    assert all(tensor.untyped_storage().nbytes() == 12 for _, tensor in found)


def test_arguments_of_other_names_are_refused():
    one, two = (
        {"a": torch.ones(()), "b": torch.ones(())},
        {"b": torch.ones(()), "a": torch.ones(())},
    )
    with pytest.raises(ValueError, match="other names"):
        each(moved, [*runs(1), (torch.ones(3), one)])
    with pytest.raises(ValueError, match="in another order"):
        each(moved, [(torch.ones(3), one), (torch.ones(3), two)])


def sorted_out(tensors, other=()):
    return groups((n, (tensor,), other) for n, tensor in enumerate(tensors))


@torch.no_grad()
def test_what_looks_alike_is_together():
    a, b, c = torch.ones(3), torch.ones(4), torch.ones(3, dtype=torch.float64)
    assert sorted_out([a, b, a, c, b, a]) == [[0, 2, 5], [1, 4], [3]]
    assert groups([("x", (a, a), 1), ("y", (a, a), 2), ("z", (a, b), 1)]) == [["x"], ["y"], ["z"]]


@torch.no_grad()
def test_large_empty_and_scattered_ones_are_alone():
    for tensor in (torch.ones(alike.SMALL + 1), torch.ones(0), torch.ones(3, 2).mT):
        assert sorted_out([tensor, tensor]) == [[0], [1]]
    assert sorted_out([torch.ones(alike.SMALL)] * 2) == [[0, 1]]
    # On other devices nothing is large so soon.
    assert sorted_out([torch.ones(alike.SMALL + 1, device="meta")] * 2) == [[0, 1]]


@torch.no_grad()
def test_groups_stay_within_bounds(monkeypatch):
    monkeypatch.setattr(alike, "TOGETHER", 7)
    assert sorted_out([torch.ones(3)] * 5) == [[0, 1], [2, 3], [4]]
    assert sorted_out([torch.ones(8)] * 2) == [[0], [1]]


def test_derivatives_are_computed_one_by_one():
    with torch.enable_grad():
        assert sorted_out([torch.ones(3)] * 2) == [[0], [1]]
