import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.norms import MAP_NORMS, VECTOR_NORMS, map_norm, vector_norm
from tests.meta_train.tasks.table import task_of


def assert_standard(normalised, over):
    zero, one = normalised.mean(over), normalised.std(over, correction=0)
    torch.testing.assert_close(zero, torch.zeros_like(zero), atol=1e-6, rtol=0)
    torch.testing.assert_close(one, torch.ones_like(one), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["batch", "group", "layer"])
def test_maps_are_normalised(name):
    (layer,) = map_norm(name)(8)
    maps = layer(3 + 2 * torch.randn(4, 8, 5, 5))
    over = {"batch": (0, 2, 3), "group": (2, 3, 4), "layer": (1, 2, 3)}[name]
    assert_standard(maps.unflatten(1, (4, 2)) if name == "group" else maps, over)


@pytest.mark.parametrize(("name", "over"), [("batch", 0), ("layer", 1)])
def test_vectors_are_normalised(name, over):
    (layer,) = vector_norm(name)(32)
    assert_standard(layer(3 + 2 * torch.randn(40, 32)), over)


@pytest.mark.parametrize("find", [map_norm, vector_norm])
def test_none_makes_no_layer(find):
    assert find("none")(8) == []


@pytest.mark.parametrize("norms", [MAP_NORMS, VECTOR_NORMS])
def test_nothing_is_remembered_from_batch_to_batch(norms):
    assert not [b for make in norms.values() for layer in make(8) for b in layer.buffers()]


@pytest.mark.parametrize("family", ["mlp", "convnet", "residual"])
def test_an_unknown_normalisation(family):
    kind = "vectors" if family == "mlp" else "maps"
    with pytest.raises(MetaTrainError, match=rf"no normalisation of {kind} `x`.\n.*layer, none"):
        task_of(f"{family}:norm=x")
