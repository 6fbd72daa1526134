import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from meta_train.errors import MetaTrainError
from meta_train.tasks.attention import Attention, Layer


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_attention_is_that_of_torch(heads, causal):
    attention, x = Attention(12, heads, causal), torch.randn(3, 5, 12)
    q, k, v = attention.qkv(x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    theirs = scaled_dot_product_attention(q, k, v, is_causal=causal)
    expected = attention.out(theirs.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("part", ["attention", "perceptron"])
def test_a_layer_adds_each_part_to_its_input(part):
    layer, x = Layer(8, 2, "gelu", causal=False), torch.randn(3, 5, 8)
    with torch.no_grad():
        for silent in {"attention", "perceptron"} - {part}:
            for parameter in layer.get_submodule(silent).parameters():
                parameter.zero_()
        torch.testing.assert_close(layer(x), x + layer.get_submodule(part)(x))


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(MetaTrainError, match="width 16 cannot have 3 heads"):
        Attention(16, 3, causal=True)
