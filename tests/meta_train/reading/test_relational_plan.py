import pytest

from meta_train.errors import MetaTrainError
from meta_train.reading.relational_plan import Shape, matched_width, operations
from meta_train.tasks.ws_flex import drawn
from meta_train.tasks.ws_sweep import named

CIFAR = Shape("mlp", 3, 32, 10, 512, 3)
SMALL = {
    "mlp": Shape("mlp", 1, 8, 10, 24, 3),
    "cnn": Shape("cnn", 1, 8, 10, 16, 3),
    "resnet": Shape("resnet", 1, 8, 10, 16, 2),
}


def test_operations_and_widths_are_the_published_ones():
    complete, lattice = (named(name, 64).graph for name in ("complete", "lattice"))
    assert operations(CIFAR, 512, complete) == 2_364_416
    assert operations(CIFAR._replace(width=256), 256, complete) == 985_600
    assert matched_width(CIFAR, complete) == 512
    assert matched_width(CIFAR, lattice) == 1539
    best = drawn(64, 0.128001 * 64, 0.128063, 4)  # the published best graph, up to its rewiring
    assert matched_width(CIFAR, best) == pytest.approx(1522, abs=1)


@pytest.mark.parametrize("kind", SMALL)
def test_the_width_is_the_smallest_with_enough_operations(kind):
    shape, graph = SMALL[kind], named("small_world", 16).graph
    wanted = operations(shape, shape.width, named("complete", 16).graph)
    width = matched_width(shape, graph)
    assert operations(shape, width, graph) >= wanted > operations(shape, width - 1, graph)


def test_fewer_neurons_than_nodes_are_refused():
    with pytest.raises(MetaTrainError, match="no neuron for each of 64 nodes"):
        matched_width(SMALL["mlp"], named("lattice", 64).graph)
