import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from meta_train.cache import digest
from meta_train.errors import MetaTrainError
from meta_train.zoo.architecture import Architecture
from meta_train.zoo.store import INDEX, TABLE, Zoo
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.plain_data import to_plain
from ngopt.nn.files import fingerprint
from tests.meta_train.zoo.small_zoo import WIDTHS, chunk_of, make


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "small"
    make(folder)
    return folder


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_snapshots_are_those_of_the_chunks_in_order(folder):
    zoo = Zoo.open(folder)
    parts = [part for number in range(3) for part in chunk_of(number).parts]
    assert (len(zoo), zoo.kind, zoo.options, zoo.dropped) == (12, "test", {"seed": 0}, 1)
    for name in ("run", "split", "kind", "first"):
        assert torch.equal(zoo.columns[name], torch.cat([part.columns[name] for part in parts]))
    pictures = torch.cat([part.examples["pictures"] for part in parts])
    assert torch.equal(zoo.examples["pictures"], pictures)
    for number, (stack, width) in enumerate(zip(zoo.stacks, WIDTHS, strict=True)):
        for name, tensor in (*stack.parameters.items(), *stack.buffers.items()):
            whole = torch.cat([part.tensors[name] for part in parts[number::2]])
            assert torch.equal(tensor, whole)
        assert stack.graph == Architecture("test_perceptron", {"width": width}).trace()
        assert set(stack.buffers) == {"norm.running_mean", "norm.running_var"}


def test_networks_come_in_the_order_asked_for(folder):
    zoo = Zoo.open(folder)
    index = torch.tensor([7, 0, 3, 3, 11, 4])
    chosen = zoo.networks(index)
    first = chosen.in_order([stack.parameters["hidden.bias"][:, 0] for stack in chosen])
    assert torch.equal(first, zoo.columns["first"][index])
    assert len(chosen) == 6
    assert [stack.model.hidden.out_features for stack in chosen] == list(WIDTHS)


def test_networks_of_one_architecture_are_one_stack(folder):
    zoo = Zoo.open(folder)
    index = (zoo.columns["kind"] == 1).nonzero().flatten().flip(0)
    (stack,) = zoo.networks(index)
    assert torch.equal(stack.parameters["hidden.bias"][:, 0], zoo.columns["first"][index])


def test_splits_share_no_run_and_leave_none_out(folder):
    zoo = Zoo.open(folder)
    runs = [set(zoo.columns["run"][zoo.split(n)].tolist()) for n in ("train", "validation", "test")]
    assert runs == [{0, 3}, {1, 4}, {2, 5}]
    with pytest.raises(MetaTrainError, match="no split `val`"):
        zoo.split("val")


def test_parameters_keep_the_order_of_the_model(folder):
    zoo = Zoo.open(folder)
    for stack in zoo.stacks:
        assert list(stack.parameters) == [name for name, _ in stack.model.named_parameters()]


def test_opening_leaves_the_global_random_state_alone(folder):
    before = torch.get_rng_state()
    Zoo.open(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_a_moved_zoo_holds_the_same_in_copies(folder):
    zoo = Zoo.open(folder)
    moved = zoo.to("meta")
    assert moved.columns["run"].device.type == moved.examples["pictures"].device.type == "meta"
    assert moved.stacks[0].parameters["hidden.bias"].device.type == "meta"
    assert next(moved.stacks[0].model.parameters()).device.type == "meta"
    assert next(zoo.stacks[0].model.parameters()).device.type == "cpu"


def test_a_missing_zoo(tmp_path):
    with pytest.raises(MetaTrainError, match=r"no finished zoo in .*\n.*python -m meta_train zoo"):
        Zoo.open(tmp_path)


@pytest.mark.parametrize("name", [INDEX, TABLE, "networks-000.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_file_cut_short(folder, tmp_path, name, share):
    copy = shutil.copytree(folder, tmp_path / "copy")
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: int(len(whole) * share)])
    refused(copy)


@pytest.mark.parametrize("name", [INDEX, TABLE, "networks-001.safetensors"])
def test_a_file_with_one_wrong_byte(folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[-20] ^= 1
    (copy / name).write_bytes(data)
    refused(copy)


def test_a_missing_file(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "networks-001.safetensors").unlink()
    refused(copy, "there is no file networks-001")


def refused(folder, why=""):
    before = files(folder)
    with pytest.raises(MetaTrainError, match=f"cannot be read: .*{why}"):
        Zoo.open(folder)
    assert files(folder) == before


def lie(folder, change):
    """Change the index, and give it the digest that fits."""
    index = json.loads((folder / INDEX).read_text())
    del index["sha256"]
    change(index)
    (folder / INDEX).write_text(json.dumps(index | {"sha256": digest(index)}))


def rewrite(folder, name, change):
    """Change the tensors of a file, and the index so that it fits."""
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name)

    def of_file(index):
        for entry in (index["table"], *index["architectures"]):
            if entry["file"] == name:
                entry["sha256"] = fingerprint(tensors)

    lie(folder, of_file)


def fewer(index):
    index["architectures"][0]["networks"] -= 1


def more_snapshots(index):
    index["snapshots"] += 1


def another_graph(index):
    index["architectures"][0]["graph"] = to_plain(
        Architecture("test_perceptron", {"width": 4}).trace()
    )


def another_wiring(index):
    graph = Architecture("test_perceptron", {"width": WIDTHS[0]}).trace()
    shapes = {name: layout.shape for name, layout in graph.parameters.items()}
    index["architectures"][0]["graph"] = to_plain(NeuralGraph.per_tensor(shapes))


def another_model(index):
    index["architectures"][0]["config"] = {"width": 4}


def unknown_model(index):
    index["architectures"][0]["model"] = "unheard_of"


def another_version(index):
    index["format"] = "ngopt-zoo-0"


def no_names(index):
    index["categories"]["kind"] = ["narrow"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (fewer, "holds 6 networks, the index says 5"),
        (more_snapshots, "the index says 13 snapshots"),
        (another_graph, "the graph of networks-000.safetensors is that of another model"),
        (another_wiring, "the graph of networks-000.safetensors is that of another model"),
        (another_model, "the graph of networks-000.safetensors is that of another model"),
        (unknown_model, "there is no model of a zoo `unheard_of`"),
        (another_version, "its format is 'ngopt-zoo-0'"),
        (no_names, "column `kind` has values without a name"),
    ],
)
def test_an_index_that_lies(folder, tmp_path, change, why):
    copy = shutil.copytree(folder, tmp_path / "copy")
    lie(copy, change)
    refused(copy, why)


def shortened(tensors):
    tensors["hidden.bias"] = tensors["hidden.bias"][:-1].clone()


def renamed(tensors):
    tensors["other.bias"] = tensors.pop("hidden.bias")


def infinite(tensors):
    tensors["hidden.bias"][0] = torch.inf


def all_shortened(tensors):
    tensors |= {name: tensor[:-1].clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (shortened, "`hidden.bias` has shape"),
        (renamed, "holds `other.bias`, which its model has not"),
        (infinite, "`hidden.bias` in networks-000.safetensors is not finite"),
        (all_shortened, "holds 5 networks, the index says 6"),
    ],
)
def test_networks_that_do_not_fit(folder, tmp_path, change, why):
    copy = shutil.copytree(folder, tmp_path / "copy")
    rewrite(copy, "networks-000.safetensors", change)
    refused(copy, why)


def short_column(tensors):
    tensors["columns/first"] = tensors["columns/first"][:-1].clone()


def run_in_two_splits(tensors):
    tensors["columns/split"][0] = 1


def same_place(tensors):
    tensors["places"][1] = tensors["places"][0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (short_column, "the table has 11 of `first`"),
        (run_in_two_splits, "a run has snapshots in two splits"),
        (same_place, "not every network belongs to one snapshot"),
    ],
)
def test_a_table_that_lies(folder, tmp_path, change, why):
    copy = shutil.copytree(folder, tmp_path / "copy")
    rewrite(copy, TABLE, change)
    refused(copy, why)
