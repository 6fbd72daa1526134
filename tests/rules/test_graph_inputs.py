import pytest
import torch

from ngopt.features.positions import NODE_POSITIONS, POSITIONS, TAP_POSITIONS, Positions
from ngopt.graph.incidence import incidences
from ngopt.graph.nodes import nodes_of
from ngopt.rules.graph_inputs import BundleInputs, GraphInputs
from tests.rules.rule_inputs import GRAPHS, draw

CHANNELS, CONTEXT = 3, 2
every_graph = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)


def graph_inputs_of(described, names=None, shown=POSITIONS):
    """Inputs of the bundles of some parameters, with random features."""
    parameters = draw(described, 0)
    parts = [
        BundleInputs(layout, bundle, (array,), torch.ones(()), name, 2)
        for name, layout in described.parameters.items()
        if names is None or name in names
        for bundle, array in zip(layout.bundles, layout.views(parameters[name]), strict=True)
    ]
    features = [torch.randn(*part.bundle.shape, CHANNELS, dtype=torch.float64) for part in parts]
    context = torch.randn(len(parts), CONTEXT, dtype=torch.float64)
    return GraphInputs.of(described, parts, features, context, Positions(shown), {"memory": {}})


@every_graph
def test_describes_the_nodes_of_the_whole_graph(described):
    graph_inputs = graph_inputs_of(described, ["0.weight", "stem.weight", "up.weight"])
    assert graph_inputs.nodes == nodes_of(described)
    assert graph_inputs.positions.shape == (graph_inputs.nodes.count, NODE_POSITIONS)
    assert graph_inputs.positions.dtype == torch.float64
    assert graph_inputs.memory == {"memory": {}}


@every_graph
def test_ends_are_those_of_each_bundle_whichever_are_there(described):
    every = dict(
        zip(
            described.bundles,
            incidences(described, nodes_of(described), torch.device("cpu")),
            strict=True,
        )
    )
    for names in (None, list(described.parameters)[1::2]):
        graph_inputs = graph_inputs_of(described, names)
        assert len(graph_inputs.ends) == len(graph_inputs.bundles) == len(graph_inputs.taps)
        for part, end in zip(graph_inputs.bundles, graph_inputs.ends, strict=True):
            assert torch.equal(end.target, every[part.bundle].target)
            assert torch.equal(end.source, every[part.bundle].source)


@every_graph
def test_inputs_of_an_entry_are_its_features_its_tap_and_its_bundle(described):
    graph_inputs = graph_inputs_of(described)
    for number, found in enumerate(graph_inputs.entry_features()):
        shape = graph_inputs.bundles[number].bundle.shape
        assert found.shape == (*shape, CHANNELS + TAP_POSITIONS + CONTEXT)
        for place in ((0, 0, 0, 0), tuple(size - 1 for size in shape)):
            expected = [
                graph_inputs.features[number][place],
                graph_inputs.taps[number][place[3]],
                graph_inputs.context[number],
            ]
            assert torch.equal(found[place], torch.cat(expected))


def test_positions_that_are_not_shown_are_zero():
    graph_inputs = graph_inputs_of(GRAPHS["residual_convnet"], shown=[])
    assert not graph_inputs.positions.any()
    assert not any(taps.any() for taps in graph_inputs.taps)
    shown = graph_inputs_of(GRAPHS["residual_convnet"])
    assert shown.positions.any()
    assert any(taps.any() for taps in shown.taps)
