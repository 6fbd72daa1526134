import pytest
import torch

from ngopt.errors import GraphError
from ngopt.graph.bundle import ViewStep
from ngopt.graph.layout import Layout
from tests.hand_built import EXAMPLES, attention_block, bundle, layout, spaces

KNOWN = spaces(h=6, k=4, g=2, a=(3, "g"), b=(1, "g"))


def joined_inner_parts() -> Layout:
    """Input axis of 8 = 2 groups of (3 of a, 1 of b)."""
    steps = [ViewStep(1, 0, 8, (2, 4))]
    parts = (
        bundle("w", KNOWN, ["h", "g", "a"], "oii", [*steps, ViewStep(2, 0, 3, (3,))], [0, 1, 1]),
        bundle("w", KNOWN, ["h", "g", "b"], "oii", [*steps, ViewStep(2, 3, 1, (1,))], [0, 1, 1]),
    )
    return Layout("w", (6, 8), parts)


DESCRIBED = [
    pytest.param(item, id=f"{name}-{item.name}")
    for name, example in EXAMPLES.items()
    for item in example()[1].layouts.values()
] + [pytest.param(joined_inner_parts(), id="joined_inner_parts")]


@pytest.mark.parametrize("described", DESCRIBED)
def test_assemble_inverts_views(described):
    tensor = torch.randn(described.shape)
    arrays = described.views(tensor)
    assert [tuple(a.shape) for a in arrays] == [b.shape for b in described.bundles]
    assert torch.equal(described.assemble(arrays, tensor), tensor)


@pytest.mark.parametrize("described", DESCRIBED)
def test_bundles_cover_each_entry_once(described):
    count = torch.zeros(described.shape)
    for part in described.bundles:
        part.unfold(count).add_(1)
    assert torch.equal(count, torch.ones(described.shape))


def test_inner_parts_hold_the_right_entries():
    tensor = torch.arange(48).reshape(6, 8)
    a, b = joined_inner_parts().views(tensor)
    assert torch.equal(a[0, ..., 0], tensor[:, [0, 1, 2, 4, 5, 6]])
    assert torch.equal(b[0, ..., 0], tensor[:, [3, 7]])


def test_whole_layout_copies_nothing():
    described = layout(KNOWN, "w", ["h", "k"], "oi")
    tensor = torch.randn(6, 4)
    assert described.whole
    assert described.views(tensor)[0].data_ptr() == tensor.data_ptr()
    assert described.assemble(described.views(tensor), tensor).data_ptr() == tensor.data_ptr()


def test_transposed_layout_copies_nothing():
    described = layout(KNOWN, "w", ["k", "h"], "io")
    tensor = torch.randn(4, 6)
    assert described.whole
    (array,) = described.views(tensor)
    assert array.shape == (1, 6, 4, 1)
    assert described.assemble([array], tensor).data_ptr() == tensor.data_ptr()
    torch.testing.assert_close(described.assemble([array.contiguous()], tensor), tensor)


def test_divided_layout_is_not_whole():
    assert not attention_block()[1].layouts["qkv.weight"].whole


def test_empty_tensor_has_no_bundles():
    described = Layout("w", (0, 4), ())
    tensor = torch.empty(0, 4, dtype=torch.float64)
    assert described.views(tensor) == []
    result = described.assemble([], tensor)
    assert result.shape == (0, 4)
    assert result.dtype == torch.float64


def test_assemble_takes_the_dtype_of_the_arrays():
    described = joined_inner_parts()
    arrays = described.views(torch.randn(6, 8, dtype=torch.float64))
    assert described.assemble(arrays, torch.empty(6, 8)).dtype == torch.float64


def test_assemble_is_differentiable():
    described = joined_inner_parts()
    tensor = torch.randn(6, 8, requires_grad=True)
    scale = torch.randn(6, 8)
    (described.assemble(described.views(tensor), tensor) * scale).sum().backward()
    assert torch.equal(tensor.grad, scale)


def test_wrong_shape_is_refused():
    described = layout(KNOWN, "w", ["h", "k"], "oi")
    with pytest.raises(GraphError, match=r"`w` with shape \(6, 4\).*shape \(4, 6\)") as error:
        described.views(torch.randn(4, 6))
    assert "ngopt.trace" in str(error.value)


def test_divided_layout_is_put_together_under_vmap():
    described = attention_block()[1].layouts["qkv.weight"]
    tensors = torch.randn(3, *described.shape)
    like = torch.zeros(described.shape)  # not batched

    def there_and_back(tensor):
        return described.assemble(described.views(tensor), like)

    assert torch.equal(torch.vmap(there_and_back)(tensors), tensors)
