from collections import Counter
from dataclasses import fields

import pytest
import torch
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.rings import RINGS, Entry, ring
from meta_train.spec import parse
from meta_train.tasks.family import family_of
from meta_train.tasks.task import problems
from tests.meta_train.data.original_files import write_cifar10, write_mnist

ENTRIES = [(name, entry) for name, entries in RINGS.items() for entry in entries]
every_entry = pytest.mark.parametrize(
    "entry", [pytest.param(entry, id=f"{name}-{entry.family}") for name, entry in ENTRIES]
)
FAR = {
    "residual",
    "vit",
    "mixer",
    "rnn_lm",
    "transformer_lm",
    "autoencoder",
    "vae",
    "siren",
    "gnn",
    "mlp",
}


@pytest.fixture(scope="module", autouse=True)
def _data(tmp_path_factory):
    """Tiny data sets in place of the real ones."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NGOPT_DATA", str(folder))
        write_mnist(folder, "MNIST")
        write_mnist(folder, "FashionMNIST")
        write_cifar10(folder, patch)
        file = folder / "tinyshakespeare" / "input.txt"
        file.parent.mkdir()
        file.write_text("To be, or not to be, that is the question. " * 30)
        yield


def parameters(family):
    """Number of weights of a task."""
    drawn = Entry(family).task().problem(torch.Generator().manual_seed(0))
    return sum(parameter.numel() for parameter in drawn.parameters.values())


@every_entry
def test_every_entry_is_one_task(entry):
    family = family_of(entry.family)
    assert {field.name: len(getattr(family, field.name)) for field in fields(family)} == {
        field.name: 1 for field in fields(family)
    }


@every_entry
def test_every_entry_has_a_loss(entry):
    task, generator = entry.task(), torch.Generator().manual_seed(0)
    drawn = problems(task, 1, generator)
    batch = task.batches(drawn.context, 1, generator)
    with torch.no_grad():
        loss = torch.vmap(task.loss, randomness="different")(*drawn, batch)
    assert loss.shape == (1,)
    assert 0 < loss.item() < 100


def test_no_task_is_in_two_rings():
    names = Counter(entry.task().name for _, entry in ENTRIES)
    assert set(names.values()) == {1}


def test_near_has_the_families_of_meta_training_and_the_nets_of_the_paper():
    assert {parse(entry.family).name for entry in RINGS["near"]} == {"mlp", "convnet"}
    assert {entry.steps for entry in RINGS["near"]} == {1000}
    small, large = (entry.family for entry in RINGS["near"][-2:])
    assert (parameters(small), parameters(large)) == (14_378, 56_970)


def test_far_has_other_architectures():
    assert {parse(entry.family).name for entry in RINGS["far"]} == FAR
    (deep,) = (entry for entry in RINGS["far"] if parse(entry.family).name == "mlp")
    layers = [m for m in deep.task().module.modules() if isinstance(m, nn.Linear)]
    assert len(layers) > 16
    assert len(RINGS["near"]) + len(RINGS["far"]) + len(RINGS["large"]) >= 12


def test_large_is_large():
    least = {"mlp": 250_000, "convnet": 200_000, "transformer_lm": 200_000}
    assert {parse(entry.family).name for entry in RINGS["large"]} == set(least)
    for entry in RINGS["large"]:
        assert parameters(entry.family) >= least[parse(entry.family).name]
        assert (entry.steps, entry.problems) == (10_000, 1)


def test_transfer_is_over_widths_and_depths():
    over = Counter()
    for entry in RINGS["transfer"]:
        options = parse(entry.family).options
        over[options["data"]] += 1
        assert options["depth"] == 3 or options["width"] == 16
    assert over == {"fashion_mnist": 9, "cifar10": 9}


def test_rings_by_name():
    assert ring("near") is RINGS["near"]
    with pytest.raises(MetaTrainError, match=r"no ring `nigh`(.|\n)*far, large, near"):
        ring("nigh")
