import pytest
import torch

from meta_train.reading.relational_networks import network
from meta_train.reading.relational_plan import Shape, operations, plan
from meta_train.tasks.block_layers import BlockConv2d, BlockLinear
from meta_train.tasks.relational import MaskedConv2d, MaskedLinear
from meta_train.tasks.ws_sweep import named

CIFAR = Shape("mlp", 3, 32, 10, 512, 3)
SMALL = {
    "mlp": Shape("mlp", 1, 8, 10, 24, 3),
    "cnn": Shape("cnn", 1, 8, 10, 16, 3),
    "resnet": Shape("resnet", 1, 8, 10, 16, 2),
}


@pytest.mark.parametrize("kind", SMALL)
def test_operations_are_those_that_are_computed(kind):
    """Each weight that is there is used once at each place: counted by a network of ones."""
    shape, graph = SMALL[kind], named("small_world", 16).graph
    built = network(shape, graph, 40, 0, "masked")
    counted = []

    def count(module, inputs, output):
        live = getattr(module, "mask", torch.ones(())).expand_as(module.weight).sum()
        counted.append(int(live) * output[0, 0].numel())

    for module in built.modules():
        if isinstance(module, torch.nn.Conv2d) or module is getattr(built, "head", None):
            module.register_forward_hook(count)
    if kind == "mlp":
        counted += [
            int(getattr(layer, "mask", torch.ones(layer.weight.shape)).sum())
            for layer in built.layers
        ]
    else:
        counted.append(built[-1].weight.numel())
    built(torch.randn(2, 1, 8, 8))
    assert sum(counted) == operations(shape, 40, graph)


@pytest.mark.parametrize("kind", SMALL)
def test_blocks_and_masks_train_alike(kind):
    graph, images = named("small_world", 16).graph, torch.randn(32, 1, 8, 8)
    losses = {}
    for compute in ("blocks", "masked"):
        built = network(SMALL[kind], graph, 40, 7, compute).double()
        optimizer = torch.optim.SGD(
            built.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        losses[compute] = []
        for _ in range(5):
            loss = torch.nn.functional.cross_entropy(built(images.double()), torch.arange(32) % 10)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[compute].append(loss.item())
    assert losses["blocks"] == pytest.approx(losses["masked"], abs=1e-9)
    assert losses["blocks"][-1] < losses["blocks"][0]


@pytest.mark.parametrize("kind", SMALL)
def test_all_but_the_first_and_the_last_layer_are_wired(kind):
    layers = plan(SMALL[kind], 40)
    assert [layer.wired for layer in layers] == [False, *[True] * (len(layers) - 2), False]
    built = network(SMALL[kind], named("lattice", 16).graph, 40, 0, "blocks")
    wired = [m for m in built.modules() if isinstance(m, BlockLinear | BlockConv2d)]
    assert len(wired) == len(layers) - 2


def test_only_sparse_graphs_are_computed_by_blocks():
    kinds = {
        name: {type(m) for m in network(CIFAR, named(name, 64).graph, 64, 0).modules()}
        for name in ("complete", "lattice")
    }
    assert BlockLinear in kinds["lattice"]
    assert BlockLinear not in kinds["complete"]
    assert MaskedLinear in kinds["complete"]


def test_the_shortcut_of_a_resnet_is_wired():
    built = network(SMALL["resnet"], named("lattice", 16).graph, 40, 0, "masked")
    kernels = [m.kernel_size for m in built.modules() if isinstance(m, MaskedConv2d)]
    assert kernels.count((1, 1)) == 2


def test_weights_are_drawn_from_the_seed():
    graph, state = named("lattice", 16).graph, torch.random.get_rng_state()
    first, again, other = (network(SMALL["mlp"], graph, 40, seed, "masked") for seed in (1, 1, 2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(first.head.weight, other.head.weight)
    assert torch.equal(torch.random.get_rng_state(), state)
    live = first.layers[1].weight[first.layers[1].mask.bool()]
    assert live.std().item() == pytest.approx(0.01, rel=0.2)
