import torch

from ngopt.features.entries import Scales
from ngopt.features.tensors import TENSOR_FEATURES
from ngopt.rules.passes.passes import View
from ngopt.rules.passes.stored_view import count, recalled, stored
from tests.rules.rule_inputs import zoo_graph


def drawn(bundle, width):
    group, out, into, _ = bundle.shape
    scales = Scales.of_factors(torch.rand(group, out), torch.rand(group, into), *torch.rand(3))
    states = (torch.rand(group, out, width), torch.rand(group, into, width)) if width else ()
    return View(scales, torch.rand(TENSOR_FEATURES), torch.rand(()), states)


def test_there_and_back():
    described = zoo_graph("conv_flatten")
    for layout in described.layouts.values():
        for width in (0, 3):
            views = [drawn(bundle, width) for bundle in layout.bundles]
            vector = stored(views)
            assert vector.shape == (count(layout.bundles, width),)
            found = recalled(vector, layout.bundles, width)
            torch.testing.assert_close(found, views, rtol=0, atol=0)
