import json

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.zoo.making import make_chunk
from meta_train.zoo.store import INDEX, Zoo
from meta_train.zoo.writer import Chunk, Part, ZooWriter
from tests.meta_train.zoo.small_zoo import CATEGORIES, chunk_of, make, writer
from tests.meta_train.zoo.test_store import files


class KilledError(Exception):
    pass


def killed_after(chunks):
    """Make chunks, but come to an end in the middle of the work."""
    done = []

    def make_some(number):
        if len(done) == chunks:
            raise KilledError
        done.append(number)
        return chunk_of(number)

    return make_some


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_a_killed_command_goes_on_to_bitwise_the_same_zoo(tmp_path, chunks):
    make(tmp_path / "whole")
    with pytest.raises(KilledError):
        make(tmp_path / "killed", work=killed_after(chunks))
    assert len(writer(tmp_path / "killed").missing()) == 3 - chunks
    with pytest.raises(MetaTrainError, match="no finished zoo"):
        Zoo.open(tmp_path / "killed")
    make(tmp_path / "killed")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_killed_while_the_chunks_are_put_together(tmp_path, monkeypatch):
    make(tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("meta_train.zoo.writer.write_text", killed_at_index)
        with pytest.raises(KilledError):
            make(tmp_path / "killed")
    make(tmp_path / "killed", work=killed_after(0))
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def killed_at_index(path, text):
    if path.name == INDEX:
        raise KilledError
    path.write_text(text)


def test_several_processes_make_bitwise_the_same_zoo(tmp_path):
    make(tmp_path / "one")
    make(tmp_path / "two", processes=2)
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_a_finished_zoo_is_opened_and_not_made_again(tmp_path):
    make(tmp_path)
    before = files(tmp_path)
    assert writer(tmp_path).finished
    assert len(make(tmp_path, work=killed_after(0))) == 12
    assert files(tmp_path) == before


def test_a_command_that_another_one_has_overtaken(tmp_path):
    slow = writer(tmp_path)
    make(tmp_path)
    before = files(tmp_path)
    make_chunk(slow, killed_after(0), 1)  # there is nothing to make any more
    assert len(slow.finish(CATEGORIES)) == 12
    slow.write(1, chunk_of(1))  # it had begun before
    slow.finish(CATEGORIES)
    assert files(tmp_path) == before


@pytest.mark.parametrize("finished", [True, False])
def test_a_zoo_of_other_options_is_refused_and_left_alone(tmp_path, finished):
    if finished:
        make(tmp_path)
    else:
        writer(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(MetaTrainError, match=r"holds another zoo: seed is 0, not 1.\n.*--folder"):
        writer(tmp_path, seed=1)
    with pytest.raises(MetaTrainError, match="chunks is 3, not 4"):
        writer(tmp_path, chunks=4)
    with pytest.raises(MetaTrainError, match="kind is 'test', not 'inr'"):
        ZooWriter(tmp_path, "inr", {"seed": 0}, 3)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_missing_chunks_are_counted(tmp_path):
    partly = writer(tmp_path)
    partly.write(1, chunk_of(1))
    assert partly.missing() == [0, 2]
    with pytest.raises(MetaTrainError, match="lacks 2 of 3 chunks"):
        partly.finish(CATEGORIES)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_chunk_is_named_and_nothing_changed(tmp_path, share):
    partly = writer(tmp_path)
    for number in range(3):
        partly.write(number, chunk_of(number))
    path = tmp_path / "chunks" / "000001.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    before = files(tmp_path / "chunks")
    with pytest.raises(MetaTrainError, match=r"000001.safetensors is damaged.*\n.*Remove it"):
        partly.finish(CATEGORIES)
    assert files(tmp_path / "chunks") == before
    path.unlink()
    make(tmp_path / "whole")
    make(tmp_path)
    (tmp_path / "whole" / "copy").mkdir()
    assert files_of(tmp_path) == files_of(tmp_path / "whole")


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_chunk_of_another_zoo_is_refused(tmp_path):
    writer(tmp_path / "other", seed=1).write(0, chunk_of(0, seed=1))
    own = writer(tmp_path / "own")
    strange = (tmp_path / "other" / "chunks" / "000000.safetensors").read_bytes()
    (tmp_path / "own" / "chunks" / "000000.safetensors").write_bytes(strange)
    with pytest.raises(MetaTrainError, match="is damaged"):
        own.read(0)


def test_a_damaged_plan(tmp_path):
    writer(tmp_path)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(MetaTrainError, match=r"plan.json is damaged"):
        writer(tmp_path)


def test_parts_with_different_columns_are_refused(tmp_path):
    (first, second) = chunk_of(0).parts
    fewer = Part(
        second.architecture,
        second.tensors,
        {name: column for name, column in second.columns.items() if name != "first"},
        second.examples,
    )
    own = writer(tmp_path, chunks=1)
    own.write(0, Chunk([first, fewer]))
    with pytest.raises(MetaTrainError, match="different columns"):
        own.finish(CATEGORIES)
    assert not own.finished


def test_a_run_in_two_splits_is_refused(tmp_path):
    (part, _) = chunk_of(0).parts
    columns = {**part.columns, "split": torch.tensor([0, 1])}
    own = writer(tmp_path, chunks=1)
    own.write(0, Chunk([Part(part.architecture, part.tensors, columns, part.examples)]))
    with pytest.raises(ValueError, match="two splits"):
        own.finish(CATEGORIES)


def test_chunks_are_made_on_one_thread_whatever_there_are(tmp_path):
    torch.set_num_threads(2)
    seen = []

    def make_one(number):
        seen.append(torch.get_num_threads())
        return chunk_of(number)

    try:
        make(tmp_path, work=make_one)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == [1, 1, 1]


def test_the_index_tells_the_options_and_the_command(tmp_path):
    make(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["options"] == {"seed": 0}
    assert index["command"]
    assert [entry["networks"] for entry in index["architectures"]] == [6, 6]
