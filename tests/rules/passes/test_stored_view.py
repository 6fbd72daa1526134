import torch

from ngopt.features.entries import Scales
from ngopt.features.tensors import TENSOR_FEATURES
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.passes.passes import View
from ngopt.rules.passes.stored_view import LARGE, count, recalled, stored, thin
from tests.rules.rule_inputs import zoo_graph


def drawn(bundle, width):
    group, out, into, _ = bundle.shape
    scales = Scales.of_factors(torch.rand(group, out), torch.rand(group, into), *torch.rand(3))
    states = (torch.rand(group, out, width), torch.rand(group, into, width)) if width else ()
    return View(scales, torch.rand(TENSOR_FEATURES), *torch.rand(2), states)


def test_there_and_back():
    described = zoo_graph("conv_flatten")
    for layout in described.layouts.values():
        for width in (0, 3):
            views = [drawn(bundle, width) for bundle in layout.bundles]
            vector = stored(views)
            assert vector.shape == (count(layout.bundles, width),)
            found = recalled(vector, layout.bundles, width)
            torch.testing.assert_close(found, views, rtol=0, atol=0)


def bundles_of(*shape):
    return NeuralGraph.per_tensor({"w": shape}).layout("w").bundles


def test_of_large_vectors_little_is_stored():
    for shape, numbers in [((LARGE,), LARGE), ((LARGE, 3), LARGE + 3)]:
        (bundle,) = bundles_of(*shape)
        assert thin(bundle, 16)
        assert not thin(bundle, 0)
        assert numbers < count([bundle], 16) < numbers + 50
    for shape in [(LARGE - 1,), (LARGE, 64), (256, 256)]:
        (bundle,) = bundles_of(*shape)
        assert not thin(bundle, 16)
        assert count([bundle], 16) > 16 * shape[0]
