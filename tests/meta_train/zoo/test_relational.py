import pytest
import torch
from torch.func import functional_call

from meta_train.data.images import images
from meta_train.errors import MetaTrainError
from meta_train.zoo.relational import RelationalZooOptions, relational_chunk, run_relational_zoo
from meta_train.zoo.store import Zoo
from tests.meta_train.zoo.test_store import files
from tests.meta_train.zoo.test_writer import KilledError

TINY = {"networks": 6, "graphs": 3, "nodes": 8, "width": 16, "epochs": 4, "chunk": 4, "batch": 256}


def options(folder, **changes):
    return RelationalZooOptions(folder=folder, device="cpu", **{**TINY, **changes})


def made(folder, **changes):
    return run_relational_zoo(options(folder, test=0.2, **changes), echo=lambda text: None)


@pytest.fixture(scope="module", params=["mlp", "cnn"])
def zoo(request, tmp_path_factory):
    return made(tmp_path_factory.mktemp("relational"), model=request.param)


def test_accuracy_is_that_of_the_networks_kept(zoo):
    pictures, labels = images("digits", 8).splits["test"]
    for number in range(len(zoo)):
        (stack,) = zoo.networks(torch.tensor([number]))
        tensors = {**stack.parameters, **stack.buffers}
        own = {name: tensor[0] for name, tensor in tensors.items()}
        right = functional_call(stack.model, own, (pictures,)).argmax(1) == labels
        assert zoo.columns["accuracy"][number].item() == pytest.approx(right.float().mean().item())


def test_runs_have_three_snapshots_and_graphs_take_turns(zoo):
    assert zoo.columns["run"].tolist() == [run for run in range(6) for _ in range(3)]
    assert zoo.columns["epoch"].tolist() == [1, 2, 4] * 6
    assert zoo.columns["graph"].tolist() == [graph for graph in (0, 1, 2) * 2 for _ in range(3)]
    assert len(zoo.stacks) == 3
    gap = zoo.columns["train_accuracy"] - zoo.columns["accuracy"]
    torch.testing.assert_close(zoo.columns["gap"], gap)


def test_weights_that_are_absent_are_zero(zoo):
    masked = 0
    for stack in zoo.stacks:
        for name, module in stack.model.named_modules():
            if hasattr(module, "mask"):
                absent = (module.mask == 0).expand_as(module.weight)
                assert not stack.parameters[f"{name}.weight"][:, absent].any()
                masked += int(absent.sum())
    assert masked


def test_killed_and_resumed_it_is_the_same(tmp_path, monkeypatch):
    whole = made(tmp_path / "whole")
    chunks = []

    def killed(*args):
        if chunks:
            raise KilledError
        chunks.append(args)
        return relational_chunk(*args)

    with monkeypatch.context() as patched:
        patched.setattr("meta_train.zoo.relational.relational_chunk", killed)
        with pytest.raises(KilledError):
            made(tmp_path / "resumed")
    made(tmp_path / "resumed")
    assert files(tmp_path / "resumed").keys() == files(tmp_path / "whole").keys()
    resumed = Zoo.open(tmp_path / "resumed")
    for one, other in zip(whole.stacks, resumed.stacks, strict=True):
        for name, tensor in one.parameters.items():
            assert torch.equal(tensor, other.parameters[name])


def test_options_that_make_no_zoo_are_refused(tmp_path):
    for wrong in ({"epochs": 3}, {"width": 7}, {"networks": 0}):
        with pytest.raises(MetaTrainError, match="cannot make the zoo"):
            options(tmp_path, **wrong)
