import pytest
import torch

from ngopt.graph.recorder import TraceRecorder, version
from ngopt.graph.terms import ONE, Concat, Product, leaves, same, size


def pins(*terms):
    return {atom.pin for term in terms for atom in leaves(term)}


@pytest.fixture
def recorder():
    return TraceRecorder()


def hidden(recorder, *shape):
    """A tensor whose axes are hidden neurons."""
    tensor = torch.zeros(shape)
    recorder.put(tensor, [recorder.fresh(n) for n in shape])
    return tensor


def test_a_tensor_that_was_never_seen_is_an_input(recorder):
    x = torch.zeros(3, 5)
    assert not recorder.knows(x)
    record = recorder.record(x)
    assert recorder.knows(x)
    assert record.live
    assert pins(*record.axes) == {"input of the model"}
    assert [atom.seen for axis in record.axes for atom in leaves(axis)] == [0, 1]
    assert recorder.record(x) is record


def test_parameters_are_no_inputs_even_where_they_are_handed_in(recorder):
    weight = torch.zeros(4, 3)
    axes = recorder.add_parameter("w", weight)
    recorder.add_input(weight)
    assert recorder.axes(weight) is axes
    assert pins(*axes) == {""}
    assert not recorder.record(weight).live
    assert recorder.record(weight).sources == {"w"}


def test_constants_are_pinned(recorder):
    mask = torch.zeros(4)
    recorder.add_constant(mask, "a mask")
    assert pins(*recorder.axes(mask)) == {"a mask"}
    assert not recorder.record(mask).live


def test_tensors_are_forgotten_with_their_last_reference(recorder):
    recorder.record(torch.zeros(3))
    assert len(recorder._records) == 0


def test_axes_of_another_size_are_replaced_by_pinned_ones(recorder):
    x = torch.zeros(3, 4)
    right, wrong = recorder.fresh(3), recorder.fresh(5)
    recorder.put(x, [right, wrong])
    first, second = recorder.axes(x)
    assert first is right
    assert size(second) == 4
    assert pins(second) == {"nothing is known about it"}
    assert pins(wrong) == {""}


def test_a_tensor_whose_shape_changed_is_pinned(recorder):
    x = hidden(recorder, 3, 4)
    before = recorder.axes(x)
    x.unsqueeze_(0)
    assert recorder.record(x).live
    assert pins(*before) == {"its shape was changed in place"}
    assert [size(axis) for axis in recorder.axes(x)] == [1, 3, 4]


def test_a_tensor_computed_out_of_sight_pins_everything(recorder):
    x = hidden(recorder, 3)
    y = torch.ones(3, requires_grad=True) * 2
    recorder.record(y)
    assert pins(*recorder.axes(x)) == {"may pass through an operation that cannot be followed"}
    assert list(recorder.unknown) == ["an operation that torch functions do not show"]


def test_uniform_until_something_is_written(recorder):
    x = torch.zeros(3)
    recorder.put(x, [recorder.fresh(3)], uniform=True)
    assert recorder.is_uniform(x)
    x[0] = 1
    assert not recorder.is_uniform(x)
    assert not recorder.is_uniform(hidden(recorder, 3))


def test_results_of_parameters_and_activations(recorder):
    weight, x = torch.zeros(4, 3), torch.zeros(2, 3)
    recorder.add_parameter("w", weight)
    turned, first, second = hidden(recorder, 3, 4), hidden(recorder, 2, 4), hidden(recorder, 2, 4)
    recorder.derive([turned], [recorder.record(weight)], "other")
    assert recorder.record(turned).sources == {"w"}
    assert recorder.uses["w"].depth is None
    recorder.derive([first], [recorder.record(x), recorder.record(turned)], "linear")
    assert (recorder.record(first).live, recorder.record(first).depth) == (True, 1)
    assert (recorder.uses["w"].kind, recorder.uses["w"].depth) == ("linear", 0)
    recorder.derive([second], [recorder.record(first)], "other")
    assert recorder.record(second).depth == 1
    recorder.derive([second], [recorder.record(second), recorder.record(weight)], "embedding")
    assert recorder.record(second).depth == 2
    assert recorder.uses["w"].kind == "linear"  # of the first use


def test_broadcasting_unifies_from_the_last_axis(recorder):
    x, y = hidden(recorder, 2, 3, 4), hidden(recorder, 3, 1)
    first, second, third = recorder.broadcast((2, 3, 4), x, y)
    assert first is recorder.axes(x)[0]
    assert same(second, recorder.axes(y)[0])
    assert same(recorder.axes(x)[1], recorder.axes(y)[0])
    assert third is recorder.axes(x)[2]
    assert recorder.axes(y)[1] is ONE


def test_broadcasting_with_something_uniform_ties_nothing(recorder):
    x, zeros = hidden(recorder, 3), torch.zeros(3)
    recorder.put(zeros, [recorder.fresh(3, "constant")], uniform=True)
    (axis,) = recorder.broadcast((3,), zeros, x)
    assert axis is recorder.axes(x)[0]
    assert pins(axis) == {""}


def test_contraction(recorder):
    weight, x = torch.zeros(4, 3), torch.zeros(2, 3)
    out, into = recorder.add_parameter("w", weight)
    batch, width = recorder.axes(x)
    result = recorder.contract(["bi", "oi"], "bo", [x, weight])
    assert result == [batch, out]
    assert same(into, width)
    assert recorder.uses["w"].contracted == set(leaves(width))
    assert recorder.uses["w"].batched == set()


def test_contraction_with_an_axis_shared_edge_by_edge(recorder):
    weight, x = torch.zeros(5, 4, 3), torch.zeros(2, 5, 3)
    groups, out, into = recorder.add_parameter("w", weight)
    recorder.record(x)
    result = recorder.contract(["bgi", "goi"], "bgo", [x, weight])
    assert same(result[1], groups)
    assert same(result[2], out)
    contracted = {a for atom in recorder.uses["w"].contracted for a in leaves(atom)}
    batched = {a for atom in recorder.uses["w"].batched for a in leaves(atom)}
    assert contracted == set(leaves(into))
    assert batched == set(leaves(groups))


def test_contraction_over_an_axis_of_size_one(recorder):
    x, y = hidden(recorder, 2, 1), hidden(recorder, 3, 4)
    (first, second) = recorder.contract(["bi", "oi"], "bo", [x, y])
    assert [size(first), size(second)] == [2, 3]
    assert pins(*recorder.axes(y)) == {""}


def test_products_of_parameters_alone_are_no_use(recorder):
    a, b = torch.zeros(4, 3), torch.zeros(3, 5)
    recorder.add_parameter("a", a)
    recorder.add_parameter("b", b)
    recorder.contract(["ij", "jk"], "ik", [a, b])
    assert recorder.uses["a"].contracted == recorder.uses["b"].contracted == set()


@pytest.mark.parametrize("sizes", [[3, 4], [-1, 4], [3, -1]])
def test_factor_finds_the_missing_size(recorder, sizes):
    heads, inner = recorder.factor(recorder.fresh(12), sizes)
    assert [size(heads), size(inner)] == [3, 4]


def test_an_empty_axis_has_empty_factors(recorder):
    assert [size(axis) for axis in recorder.factor(recorder.fresh(0), [0, 4])] == [0, 4]


def test_taking_a_part_chooses_it_on_the_other_axes(recorder):
    parts = [recorder.fresh(4) for _ in range(3)]
    rows, inner = recorder.factor(recorder.concat(parts), [3, 4])
    row, chosen = recorder.take([rows, inner], 0, 2, 1)
    assert size(row) == 1
    assert same(chosen, parts[2])


def test_concat_and_product_of_one_axis_are_that_axis(recorder):
    a, b = recorder.fresh(2), recorder.fresh(3)
    assert recorder.concat([a]) is recorder.product(a) is a
    assert isinstance(recorder.concat([a, b]), Concat)
    assert isinstance(recorder.product(a, b), Product)


def test_giving_up_pins_and_names(recorder):
    x, y = hidden(recorder, 3), hidden(recorder, 4)
    recorder.give_up("magic", [x, y])
    recorder.give_up("magic", [x])
    assert list(recorder.unknown) == ["magic"]
    assert pins(*recorder.axes(x), *recorder.axes(y)) == {
        "passes through magic, which has no handler"
    }


def test_free_axes_are_no_neurons(recorder):
    axis = recorder.fresh(3)
    recorder.make_free(axis)
    (atom,) = leaves(axis)
    assert atom.free
    assert atom.pin == "not neurons"


def test_versions():
    x = torch.zeros(3)
    before = version(x)
    x.add_(1)
    assert version(x) > before
    with torch.inference_mode():
        assert version(torch.zeros(3)) is None
