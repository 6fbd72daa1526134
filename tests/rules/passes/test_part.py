import torch

from ngopt.rules.matrix_gnn import MatrixGNN
from ngopt.rules.passes.part import arrays_of
from tests.rules.rule_inputs import draw, zoo_graph


def test_bundles_come_with_their_own_entries():
    described = zoo_graph("conv_flatten")
    parameters, gradients = draw(described, 0), draw(described, 1)
    state = MatrixGNN().init_state(parameters, described)
    for name, layout in described.parameters.items():
        found = list(arrays_of(layout, parameters[name], gradients[name], state[name]))
        assert [bundle for bundle, _, _ in found] == list(layout.bundles)
        weights = [arrays.weight for _, _, arrays in found]
        slopes = [arrays.gradient for _, _, arrays in found]
        assert torch.equal(layout.assemble(weights, parameters[name]), parameters[name])
        assert torch.equal(layout.assemble(slopes, gradients[name]), gradients[name])
        for bundle, matrix, arrays in found:
            assert set(arrays.state) == {"step", "evidence", "fast", "slow", "square"}
            assert (matrix is None) == (len(layout.shape) < 2)
            assert arrays.weight.shape == bundle.shape
