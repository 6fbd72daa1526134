import math

import pytest
import torch
from torch.func import functional_call

import ngopt
from meta_train.errors import MetaTrainError
from meta_train.zoo.architecture import Architecture
from meta_train.zoo.cnn import (
    CnnOptions,
    architectures,
    cached_images,
    cnn_chunk,
    hyper_parameters,
    run_cnn,
)
from meta_train.zoo.networks import NO_SKIP, ConvNet, shared_channels, small_config, varied_config
from meta_train.zoo.training import (
    OPTIMIZERS,
    Recipe,
    begin,
    draw_recipe,
    figures,
    make_optimizer,
    train,
)
from tests.meta_train.zoo.test_store import files
from tests.meta_train.zoo.test_writer import KilledError

TINY = {"data": "digits", "networks": 8, "shortest": 9, "longest": 12, "batch": 8, "chunk": 3}
FEW = {"test_images": 40, "device": "cpu"}


def options(folder, **changes):
    return CnnOptions(folder=folder, **{**TINY, **FEW, **changes})


def made(folder, **changes):
    return run_cnn(options(folder, **changes), echo=lambda text: None)


@pytest.fixture(scope="module", params=[0, 3], ids=["small", "varied"])
def zoo(request, tmp_path_factory):
    return made(tmp_path_factory.mktemp("cnn"), architectures=request.param)


def test_accuracy_is_that_of_the_networks_kept(zoo):
    size = zoo.options["size"]
    raw = cached_images("digits", size, not zoo.options["architectures"])
    for number in range(len(zoo)):
        (stack,) = zoo.networks(torch.tensor([number]))
        network = stack.model
        network.load_state_dict({name: tensor[0] for name, tensor in stack.parameters.items()})
        accuracy, loss = figures(network, raw.test[:40], raw.test_labels[:40])
        assert float(zoo.columns["accuracy"][number]) == pytest.approx(accuracy)
        assert float(zoo.columns["loss"][number]) == pytest.approx(loss, rel=1e-4)


def test_runs_have_three_snapshots_in_one_split(zoo):
    assert torch.equal(zoo.columns["run"], torch.arange(8).repeat_interleave(3))
    assert [len(zoo.split(name)) for name in ("train", "validation", "test")] == [15, 3, 6]
    steps = zoo.columns["step"].view(8, 3)
    assert (steps.diff(dim=1) > 0).all()
    assert torch.equal(steps[:, 2], zoo.columns["steps"].view(8, 3)[:, 2])
    first, last = (zoo.networks(torch.arange(n, 24, 3)) for n in (0, 2))
    for early, late in zip(first, last, strict=True):
        assert not torch.equal(early.parameters["out.weight"], late.parameters["out.weight"])


def test_columns_that_are_known_beforehand(zoo):
    known = hyper_parameters(zoo)
    assert {"lr", "l2", "dropout", "optimizer", "train_fraction", "step", "epoch"} <= set(known)
    assert not {"accuracy", "train_accuracy", "gap", "loss", "run", "split"} & set(known)
    gap = zoo.columns["train_accuracy"] - zoo.columns["accuracy"]
    torch.testing.assert_close(zoo.columns["gap"], gap, rtol=0, atol=1e-6)


def test_columns_tell_the_architecture(zoo):
    known = {number: stack.model for number, stack in enumerate(zoo.stacks)}
    for number, (stack, _) in enumerate(zoo.places.tolist()):
        kinds = [type(act).__name__.lower() for act in known[stack].activations]
        if not zoo.options["architectures"]:
            told = zoo.categories["activation"][int(zoo.columns["activation"][number])]
            assert kinds == [told] * 3
            continue
        layers = int(zoo.columns["layers"][number])
        names = [
            zoo.categories[f"activation_{n}"][int(zoo.columns[f"activation_{n}"][number])]
            for n in range(5)
        ]
        assert kinds == [name.replace("_", "") for name in names[:layers]]
        assert names[layers:] == ["absent"] * (5 - layers)
        channels = [int(zoo.columns[f"channels_{n}"][number]) for n in range(layers)]
        assert channels == [c.out_channels for c in known[stack].convolutions]


@pytest.mark.parametrize("architectures", [0, 2])
def test_a_killed_command_goes_on_to_bitwise_the_same_zoo(tmp_path, monkeypatch, architectures):
    some = {"architectures": architectures, "networks": 6}
    made(tmp_path / "whole", **some)
    done = []

    def killed(*given):
        if len(done) == 1:
            raise KilledError
        done.append(given)
        return cnn_chunk(*given)

    with monkeypatch.context() as patched:
        patched.setattr("meta_train.zoo.cnn.cnn_chunk", killed)
        with pytest.raises(KilledError):
            made(tmp_path / "killed", **some)
    torch.manual_seed(5)  # of no account
    made(tmp_path / "killed", **some)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_training_leaves_the_global_random_state_alone(tmp_path):
    before = torch.get_rng_state()
    cnn_chunk(options(tmp_path), "cpu", 0)
    assert torch.equal(before, torch.get_rng_state())


def test_a_diverged_run_is_left_out_and_counted(tmp_path, monkeypatch):
    def exploding(generator, *rest):
        recipe = draw_recipe(generator, *rest)
        # The generator tells runs apart; every other one is given an impossible learning rate.
        lr = math.inf if int(torch.randint(2, (), generator=generator)) else 1e-3
        return Recipe(**{**recipe.plain(), "lr": lr, "optimizer": OPTIMIZERS.index("sgd")})

    monkeypatch.setattr("meta_train.zoo.cnn.draw_recipe", exploding)
    zoo = made(tmp_path)
    assert 0 < zoo.dropped < 8
    assert len(zoo) == 3 * (8 - zoo.dropped)
    assert zoo.columns["lr"].isfinite().all()


def test_the_small_network_is_the_published_one():
    network = Architecture("conv_net", small_config("relu")).build()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4970
    sizes = []
    for convolution in network.convolutions:
        convolution.register_forward_hook(lambda *given: sizes.append(given[2].shape[-1]))
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 10)
    assert sizes == [15, 7, 3]


@pytest.mark.parametrize("seed", range(12))
def test_varied_architectures_are_followed_through_their_skips(seed):
    generator = torch.Generator().manual_seed(seed)
    network = ConvNet(**varied_config(generator, size=8)).double()
    graph = ngopt.trace(network, *(of.double() for of in network.inputs()), verify=True)
    assert graph.unknown == ()
    before = network(torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=generator))
    weights = {name: p.detach() for name, p in network.named_parameters()}
    moved = ngopt.permute(graph, weights, seed)
    assert any(not torch.equal(moved[name], weights[name]) for name in weights)
    generator = torch.Generator().manual_seed(seed)
    varied_config(generator, size=8)
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(functional_call(network, moved, (images,)), before)


def test_drawn_architectures_cover_the_published_ranges():
    generator = torch.Generator().manual_seed(0)
    drawn = [varied_config(generator) for _ in range(200)]
    assert {len(config["channels"]) for config in drawn} == {2, 3, 4, 5}
    assert {c for config in drawn for c in config["channels"]} == {4, 8, 16, 32}
    assert {k for config in drawn for k in config["kernels"]} == {3, 5, 7}
    assert len({a for config in drawn for a in config["activations"]}) == 6
    skips = [(n, skip) for config in drawn for n, skip in enumerate(config["skips"])]
    assert all(skip == NO_SKIP or 0 <= skip < layer - 1 for layer, skip in skips)
    assert {skip for _, skip in skips} == {NO_SKIP, 0, 1, 2}


def test_a_skip_adds_the_channels_that_both_have():
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(shared_channels(images, 2), images[:, :2])
    wider = shared_channels(images, 5)
    assert torch.equal(wider[:, :3], images)
    assert not wider[:, 3:].any()


def test_a_skip_changes_the_outputs():
    config = small_config("relu") | {"padded": True, "strides": [1, 1, 1]}
    plain = Architecture("conv_net", config).build()
    skipping = Architecture("conv_net", config | {"skips": [-1, -1, 0]}).build()
    skipping.load_state_dict(plain.state_dict())
    images = torch.rand(2, 1, 32, 32)
    assert not torch.allclose(plain(images), skipping(images))


def test_networks_of_a_zoo_drop_nothing(tmp_path):
    network = begin(Architecture("conv_net", small_config("relu")), recipe(dropout=0.5))
    images = torch.rand(2, 1, 32, 32)
    assert not torch.equal(network(images), network(images))
    kept = Architecture("conv_net", small_config("relu")).build()
    assert torch.equal(kept(images), kept(images))


def recipe(**changes):
    usual = {"optimizer": 0, "lr": 1e-3, "l2": 0.0, "dropout": 0.0, "init_std": 0.1}
    return Recipe(**{**usual, "train_fraction": 1.0, "steps": 90, **changes})


def test_l2_pulls_weights_but_not_biases():
    network = begin(Architecture("conv_net", small_config("relu")), recipe())
    for name, parameter in network.named_parameters():
        parameter.grad = torch.zeros_like(parameter)
        if name.endswith("bias"):
            torch.nn.init.ones_(parameter)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    make_optimizer(network, recipe(optimizer=OPTIMIZERS.index("sgd"), l2=0.25, lr=1.0)).step()
    for name, parameter in network.named_parameters():
        factor = 1.0 if name.endswith("bias") else 0.5
        torch.testing.assert_close(parameter.detach(), factor * before[name])


@pytest.mark.parametrize("optimizer", range(3))
def test_networks_learn_with_each_optimizer(optimizer):
    lr = {"adam": 5e-3, "sgd": 5e-2, "rmsprop": 2e-3}[OPTIMIZERS[optimizer]]
    raw = cached_images("digits", 32, True)
    chosen = recipe(optimizer=optimizer, lr=lr, init_std=0.15)
    generator = torch.Generator().manual_seed(0)
    architecture = Architecture("conv_net", small_config("relu"))
    found = train(architecture, chosen, raw, 32, 300, generator)
    losses = [snapshot.columns["loss"] for snapshot in found]
    assert losses[2] < losses[0] - 0.1
    assert [snapshot.columns["step"] for snapshot in found] == [22, 45, 90]
    assert found[2].columns["epoch"] == pytest.approx(90 * 32 / 1497)


def test_initial_weights_have_the_spread_asked_for():
    network = begin(Architecture("conv_net", small_config("relu")), recipe(init_std=0.2))
    weight = network.convolutions[1].weight.detach()
    assert float(weight.abs().max()) <= 0.4
    assert float(weight.std()) == pytest.approx(0.2 * 0.88, rel=0.05)  # cut at two of them
    assert not network.out.bias.any()


def test_runs_take_the_architectures_in_turn(tmp_path):
    chosen = options(tmp_path, architectures=3)
    assert len(architectures(chosen)) == 3
    columns = [part.columns for n in range(3) for part in cnn_chunk(chosen, "cpu", n).parts]
    assert [int(of["architecture"][0]) for of in columns] == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("wrong", [{"networks": 0}, {"shortest": 3}, {"longest": 8}, {"batch": 0}])
def test_options_that_make_no_sense(tmp_path, wrong):
    with pytest.raises(MetaTrainError, match="cannot make the zoo"):
        options(tmp_path, **wrong)


def test_images_that_are_too_small(tmp_path):
    with pytest.raises(MetaTrainError, match=r"14 x 14 pixels are too small.*\n.*size 15 or more"):
        options(tmp_path, size=14)
    assert options(tmp_path, size=15).size == 15


def test_an_unknown_data_set(tmp_path):
    with pytest.raises(MetaTrainError, match="no image data set `nope`"):
        made(tmp_path, data="nope")
