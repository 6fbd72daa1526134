from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from meta_train.errors import MetaTrainError
from meta_train.zoo.inr import InrOptions, assignment, inr_chunk, permuted, psnr, run_inr
from meta_train.zoo.pictures import pictures
from meta_train.zoo.siren import ImageNetwork, draw, points, render
from tests.meta_train.zoo.test_store import files
from tests.meta_train.zoo.test_writer import KilledError

TINY = {"data": "digits", "networks": 40, "width": 6, "steps": 5, "chunk": 16, "device": "cpu"}


def options(folder, **changes):
    return InrOptions(folder=folder, **{**TINY, **changes})


def made(folder, **changes):
    return run_inr(options(folder, **changes), echo=lambda text: None)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return made(tmp_path_factory.mktemp("inr"), networks=64, width=16, steps=100)


def test_networks_look_like_their_images(zoo):
    images = zoo.examples["images"] / 255
    rendered = render(zoo.networks(torch.arange(64)), 8)
    error = (rendered - images).square().mean((1, 2, 3))
    assert rendered.shape == images.shape == (64, 1, 8, 8)
    assert torch.allclose(-10 * error.log10(), zoo.columns["psnr"], atol=1e-3)
    assert zoo.columns["psnr"].min() > 20
    # The image of another network is far from it.
    assert error.max() < (rendered - images.roll(1, 0)).square().mean((1, 2, 3)).min()


def test_images_and_classes_are_those_of_the_data_set(zoo):
    raw = pictures("digits")
    for name in ("train", "validation", "test"):
        index = zoo.split(name)
        assert len(index) == {"train": 48, "validation": 6, "test": 10}[name]
        of_test = name == "test"
        images, classes = raw[2:4] if of_test else raw[:2]
        number = zoo.columns["image"][index]
        assert torch.equal(zoo.examples["images"][index], images[number])
        assert torch.equal(zoo.columns["class"][index], classes[number])
        assert len(number.unique()) == len(index)


def test_rendering_is_what_the_model_computes(zoo):
    index = torch.tensor([5, 3, 60])
    networks = zoo.networks(index).to(torch.float64)
    (stack,) = networks
    at = points(11).double()
    for number in range(3):
        own = {name: tensor[number] for name, tensor in stack.parameters.items()}
        values = functional_call(stack.model, own, (at,))
        expected = (stack.model.gain * values + stack.model.offset).T.reshape(1, 11, 11)
        torch.testing.assert_close(render(networks, 11)[number], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(render(stack, 11), render(networks, 11), rtol=0, atol=0)


def test_rendering_follows_the_order_of_the_batch(zoo):
    some = render(zoo.networks(torch.tensor([7, 2, 7])), 8)
    assert torch.equal(some[0], some[2])
    torch.testing.assert_close(some[1:2], render(zoo.networks(torch.tensor([2])), 8))


def test_rendering_is_differentiable(zoo):
    (stack,) = zoo.networks(torch.arange(3)).to(torch.float64)
    parameters = {
        name: tensor.clone().requires_grad_() for name, tensor in stack.parameters.items()
    }
    names = list(parameters)

    def image(*tensors):
        return render(replace(stack, parameters=dict(zip(names, tensors, strict=True))), 3)

    assert torch.autograd.gradcheck(image, tuple(parameters.values()), fast_mode=True)


def test_what_is_no_image_is_not_rendered(zoo):
    (stack,) = zoo.networks(torch.arange(3))
    with pytest.raises(MetaTrainError, match="cannot render networks of Linear"):
        render(replace(stack, model=torch.nn.Linear(1, 1)))


@pytest.mark.parametrize(("init", "gain"), [("nfn", 0.5), ("dws", 1.0)])
def test_initial_weights_have_the_published_ranges(init, gain):
    drawn = draw({}, init, 400, torch.Generator().manual_seed(0))
    narrow = {2: (6 / 2) ** 0.5 / 30, 32: (6 / 32) ** 0.5 / 30}
    expected = {
        "nfn": [1 / 2, 2**-0.5, narrow[32], 32**-0.5, narrow[32], 32**-0.5],
        "dws": [narrow[2], 0, narrow[32], 0, 32**-0.5, 32**-0.5],
    }[init]
    for tensor, bound in zip(drawn.values(), expected, strict=True):
        assert float(tensor.abs().max()) == pytest.approx(bound, rel=0.02)
        assert float(tensor.std()) == pytest.approx(bound / 3**0.5, rel=0.1, abs=1e-9)
    assert options("unused", init=init).config["gain"] == gain


def test_dws_networks_are_images_too(tmp_path):
    zoo = made(tmp_path, init="dws", width=16, steps=150, networks=20)
    assert zoo.columns["psnr"].min() > 15
    own = render(zoo.networks(torch.arange(20)), 8)
    error = (own - zoo.examples["images"] / 255).square().mean((1, 2, 3))
    assert torch.allclose(-10 * error.log10(), zoo.columns["psnr"], atol=1e-3)


def test_with_a_common_start_only_the_order_of_neurons_hides_it(tmp_path):
    """Without steps, all networks are the same one up to permutations: they render alike."""
    chosen = options(tmp_path, start="common", steps=1, lr=1e-12)
    (part,) = inr_chunk(chosen, "cpu", 0).parts
    model = part.architecture.build()
    assert isinstance(model, ImageNetwork)
    at = points(8)
    images = torch.stack(
        [
            functional_call(model, {name: t[number] for name, t in part.tensors.items()}, (at,))
            for number in range(16)
        ]
    )
    torch.testing.assert_close(images, images[:1].expand_as(images), rtol=0, atol=1e-5)
    weights = part.tensors["layers.1.weight"]
    torch.testing.assert_close(
        weights.flatten(1).sort(1).values, weights[:1].flatten(1).sort(1).values.expand(16, -1)
    )
    assert len({tuple(of.flatten().tolist()) for of in weights}) == 16


def test_independent_starts_differ_beyond_the_order_of_neurons(tmp_path):
    (part,) = inr_chunk(options(tmp_path, steps=1, lr=1e-12), "cpu", 0).parts
    weights = part.tensors["layers.1.weight"].flatten(1).sort(1).values
    assert (weights[1:] - weights[:1]).abs().amax(1).min() > 1e-4


def test_permuted_networks_compute_the_same(tmp_path):
    architecture = inr_chunk(options(tmp_path), "cpu", 0).parts[0].architecture
    drawn = draw(architecture.config, "nfn", 5, torch.Generator().manual_seed(0))
    moved = permuted(architecture.trace(), drawn, torch.Generator().manual_seed(1))
    model, at = architecture.build().double(), points(8).double()
    for number in range(5):
        before, after = (
            functional_call(model, {n: t[number].double() for n, t in of.items()}, (at,))
            for of in (drawn, moved)
        )
        torch.testing.assert_close(before, after, rtol=0, atol=1e-12)
        assert not torch.equal(drawn["layers.0.bias"][number], moved["layers.0.bias"][number])


@pytest.mark.parametrize("start", ["independent", "common"])
def test_a_killed_command_goes_on_to_bitwise_the_same_zoo(tmp_path, monkeypatch, start):
    made(tmp_path / "whole", start=start)
    done = []

    def killed(*given):
        if len(done) == 2:
            raise KilledError
        done.append(given)
        return inr_chunk(*given)

    with monkeypatch.context() as patched:
        patched.setattr("meta_train.zoo.inr.inr_chunk", killed)
        with pytest.raises(KilledError):
            made(tmp_path / "killed", start=start)
    made(tmp_path / "killed", start=start)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_the_seed_decides_everything(tmp_path):
    first, again, other = (
        made(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    name = "layers.0.weight"
    assert torch.equal(first.stacks[0].parameters[name], again.stacks[0].parameters[name])
    assert not torch.equal(first.stacks[0].parameters[name], other.stacks[0].parameters[name])
    assert not torch.equal(first.columns["image"], other.columns["image"])


def test_more_networks_than_images_never_share_one_between_splits():
    chosen = InrOptions(data="digits", networks=5000)
    given = assignment(chosen, pictures("digits"))
    images = [set(given["image"][given["split"] == code].tolist()) for code in range(3)]
    assert len(images[0]) + len(images[1]) == 1497
    assert not images[0] & images[1]
    assert len(images[2]) == 300


def test_a_diverged_network_is_left_out_and_counted(tmp_path, monkeypatch):
    def diverging(parameters, *rest):
        found = {name: tensor.clone() for name, tensor in parameters.items()}
        found["layers.0.bias"][3] = torch.nan
        return found

    monkeypatch.setattr("meta_train.zoo.inr.fit", diverging)
    zoo = made(tmp_path)
    assert (len(zoo), zoo.dropped) == (37, 3)
    assert not set(zoo.columns["run"].tolist()) & {3, 19, 35}


def test_all_pixels_at_once(tmp_path):
    few, every, more = (made(tmp_path / str(n), pixels=n, steps=30) for n in (16, 0, 500))
    assert torch.equal(
        every.stacks[0].parameters["layers.0.bias"], more.stacks[0].parameters["layers.0.bias"]
    )
    assert few.columns["loss"].mean() > every.columns["loss"].mean()


def test_psnr_in_decibels():
    assert psnr(torch.tensor([0.01, 1.0]), 1.0).tolist() == pytest.approx([20, 0])
    assert psnr(torch.tensor([0.04]), 0.5).tolist() == pytest.approx([20])


@pytest.mark.parametrize(
    "wrong", [{"networks": 0}, {"steps": 0}, {"lr": 0.0}, {"pixels": -1}, {"chunk": 0}]
)
def test_options_that_make_no_sense(tmp_path, wrong):
    with pytest.raises(MetaTrainError, match="cannot make the zoo"):
        options(tmp_path, **wrong)


def test_too_few_networks_for_three_splits(tmp_path):
    with pytest.raises(MetaTrainError, match=r"2 runs cannot be split"):
        made(tmp_path, networks=2)


def test_the_report_compares_with_the_published_zoo(tmp_path):
    lines = []
    run_inr(options(tmp_path, init="nfn"), echo=lines.append)
    (text,) = lines
    assert "40 networks (30 train, 4 validation, 6 test)" in text
    assert "PSNR" in text
    assert "layers.1.weight" in text
