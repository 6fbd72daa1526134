import torch
from torch import nn

from ngopt.graph.inference_order import inference_order
from ngopt.graph.nodes import nodes_of
from ngopt.graph.trace import trace
from tests.hand_built import EXAMPLES


def order(described):
    """Names of the parameters that are taken in together, update by update."""
    updates = inference_order(described, nodes_of(described))
    return [{described.bundles[b].parameter for b in update.bundles} for update in updates]


def test_layers_follow_each_other_each_with_its_bias():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    expected = [{f"{n}.weight", f"{n}.bias"} for n in (0, 2, 4)]
    assert order(trace(model, torch.randn(6, 3))) == expected


def test_a_stream_is_updated_at_each_depth_at_which_something_enters_it():
    described = EXAMPLES["residual_convnet"]()[1]
    stem, conv_a, norm, conv_b, head = order(described)
    assert (stem, conv_a) == ({"stem.weight", "stem.bias"}, {"conv_a.weight"})
    assert norm == {"norm.weight", "norm.bias"}
    assert (conv_b, head) == ({"conv_b.weight", "conv_b.bias"}, {"head.weight", "head.bias"})


def test_every_bundle_is_taken_in_once():
    for example in EXAMPLES.values():
        described = example()[1]
        updates = inference_order(described, nodes_of(described))
        taken = sorted(number for update in updates for number in update.bundles)
        assert taken == list(range(len(described.bundles)))


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.core, self.head = nn.LSTM(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.core(x)[0])


def test_of_the_same_depth_what_is_read_comes_first():
    described = trace(LSTM(), torch.randn(5, 2, 3))
    assert {x.depth for name, x in described.layouts.items() if "core" in name} == {0.0}
    layers = [{name[-2:] for name in names} for names in order(described)]
    assert layers[:3] == [{"l0"}, {"l1"}, {"l2"}]


def test_weight_and_bias_of_a_single_output_enter_the_same_node():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    assert order(trace(model, torch.randn(6, 3)))[-1] == {"2.weight", "2.bias"}
