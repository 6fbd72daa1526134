import pytest
import torch

from ngopt.graph.incidence import Incidence
from ngopt.nn.affine import Affine, PairAffine
from tests.rules.rule_inputs import randomize


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_follows_the_dtype_of_its_input(dtype):
    affine = Affine(3, 4, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(affine.bias)
    x = torch.randn(2, 5, 3, dtype=dtype)
    expected = torch.nn.functional.linear(x, affine.weight.T.to(dtype), affine.bias.to(dtype))
    assert affine(x).dtype == dtype
    torch.testing.assert_close(affine(x), expected)


def test_is_zero_without_a_generator():
    affine = Affine(3, 4, bias=False)
    assert affine.bias is None
    assert not affine(torch.randn(6, 3)).any()


def test_draw_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    a, b = (Affine(50, 4, torch.Generator().manual_seed(1)).weight for _ in range(2))
    assert torch.equal(a, b)
    assert 0.5 * 50**-0.5 < a.abs().max() <= 50**-0.5
    assert torch.equal(torch.get_rng_state(), before)


def test_of_a_pair_is_an_affine_map_of_pair_target_and_source_beside_each_other():
    module = randomize(PairAffine(3, 2, 5, torch.Generator()))
    pairs, nodes = torch.randn(2, 3, 4, 3), torch.randn(20, 2)
    ends = Incidence(torch.randperm(20)[:6].view(2, 3), torch.randperm(20)[:8].view(2, 4))
    matrix = torch.cat([module.pair.weight, module.target.weight, module.source.weight])
    result = module(pairs, nodes, ends)
    assert result.shape == (2, 3, 4, 5)
    for g, o, i in [(0, 0, 0), (1, 2, 3), (0, 1, 2)]:
        beside = torch.cat([pairs[g, o, i], nodes[ends.target[g, o]], nodes[ends.source[g, i]]])
        torch.testing.assert_close(result[g, o, i], beside @ matrix + module.pair.bias)
