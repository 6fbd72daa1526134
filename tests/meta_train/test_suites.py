import json
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import nn

import meta_train
from meta_train.errors import MetaTrainError
from meta_train.spec import parse
from meta_train.suites import SUITES, SuiteTask, suite
from meta_train.tasks.family import family_of
from meta_train.tasks.task import problems
from tests.meta_train.data.original_files import write_cifar10, write_mnist

ENTRIES = [(name, entry) for name, entries in SUITES.items() for entry in entries]
every_entry = pytest.mark.parametrize(
    "entry", [pytest.param(entry, id=f"{name}-{entry.family}") for name, entry in ENTRIES]
)
KIN = {"residual", "rnn_lm", "transformer_lm", "autoencoder"}
FAR = {"vit", "mixer", "rnn_lm", "vae", "siren", "gnn", "mlp", "unet", "moe", "flow", "kan"}


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
    drawn = SuiteTask(family).task().problem(torch.Generator().manual_seed(0))
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


def test_no_task_is_in_two_suites():
    names = Counter(entry.task().name for _, entry in ENTRIES)
    assert set(names.values()) == {1}


def test_near_has_the_families_of_meta_training_and_the_nets_of_the_paper():
    assert {parse(entry.family).name for entry in SUITES["near"]} == {"mlp", "convnet"}
    assert {entry.steps for entry in SUITES["near"]} == {1000}
    small, large = (entry.family for entry in SUITES["near"][-2:])
    assert (parameters(small), parameters(large)) == (14_378, 56_970)


def test_kin_and_far_have_other_architectures():
    assert {parse(entry.family).name for entry in SUITES["kin"]} == KIN
    assert {parse(entry.family).name for entry in SUITES["far"]} == FAR
    (deep,) = (entry for entry in SUITES["far"] if parse(entry.family).name == "mlp")
    layers = [m for m in deep.task().module.modules() if isinstance(m, nn.Linear)]
    assert len(layers) > 16


def test_language_models_differ_by_their_cell():
    cells = {
        name: {
            parse(entry.family).options["cell"]
            for entry in SUITES[name]
            if parse(entry.family).name == "rnn_lm"
        }
        for name in ("kin", "far", "validation")
    }
    assert cells == {"kin": {"gru"}, "far": {"lstm"}, "validation": {"gru"}}


def test_rules_are_chosen_by_all_kinds_that_are_meta_trained():
    chosen = {parse(entry.family).name for entry in SUITES["validation"]}
    assert chosen == {"mlp", "convnet", "quadratic"} | KIN


def test_tuned_results_are_of_the_tasks_of_suites():
    """Those in the repository are found only while the texts of their tasks stay as they are."""
    names = {entry.task().name for _, entry in ENTRIES}
    tuned = Path(meta_train.__file__).parent.parent / "benchmarks" / "tuned"
    kept = {json.loads(path.read_text())["key"]["task"] for path in tuned.glob("Adam_*.json")}
    assert len(kept) >= 40
    assert kept <= names


def test_large_is_large():
    least = {"mlp": 250_000, "convnet": 200_000, "transformer_lm": 200_000}
    assert {parse(entry.family).name for entry in SUITES["large"]} == set(least)
    for entry in SUITES["large"]:
        assert parameters(entry.family) >= least[parse(entry.family).name]
        assert (entry.steps, entry.problems) == (10_000, 1)


def test_transfer_is_over_widths_and_depths():
    over = Counter()
    for entry in SUITES["transfer"]:
        options = parse(entry.family).options
        over[options["data"]] += 1
        assert options["depth"] == 3 or options["width"] == 16
    assert over == {"fashion_mnist": 9, "cifar10": 9}


def test_suites_by_name():
    assert suite("near") is SUITES["near"]
    with pytest.raises(MetaTrainError, match=r"no suite `nigh`(.|\n)*far, kin, large, near"):
        suite("nigh")
