import torch

from ngopt.graph.incidence import Incidence
from ngopt.rules.layers.pair_affine import PairAffine
from tests.rules.rule_inputs import randomize


def test_it_is_an_affine_map_of_pair_target_and_source_beside_each_other():
    module = randomize(PairAffine(3, 2, 5, torch.Generator()))
    pairs, nodes = torch.randn(2, 3, 4, 3), torch.randn(20, 2)
    ends = Incidence(torch.randperm(20)[:6].view(2, 3), torch.randperm(20)[:8].view(2, 4))
    matrix = torch.cat([module.pair.weight, module.target.weight, module.source.weight])
    result = module(pairs, nodes, ends)
    assert result.shape == (2, 3, 4, 5)
    for g, o, i in [(0, 0, 0), (1, 2, 3), (0, 1, 2)]:
        beside = torch.cat([pairs[g, o, i], nodes[ends.target[g, o]], nodes[ends.source[g, i]]])
        torch.testing.assert_close(result[g, o, i], beside @ matrix + module.pair.bias)
