import os
import random
import tempfile
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meta_train import checkpoint
from meta_train.errors import MetaTrainError

STATE = {
    "step": 3,
    "theta": {"weight": torch.arange(6.0).view(2, 3).t(), "half": torch.ones(2).bfloat16()},
    "stacks": [{"task": "mlp(width=16)", "noise": {}, "diverged": torch.tensor([True, False])}],
    "nothing": None,
}


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def _steps(folder):
    return sorted(int(path.name[5:13]) for path in folder.glob("step-*.checkpoint"))


def _latest(folder):
    messages = []
    return checkpoint.latest(folder, messages.append), messages


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return checkpoint.save(tmp_path_factory.mktemp("whole"), 2, STATE).read_bytes()


def test_what_is_saved_is_loaded(tmp_path):
    path = checkpoint.save(tmp_path / "deep" / "run", 7, STATE)
    (step, state), messages = _latest(path.parent)
    assert step == 7
    assert messages == []
    assert state.keys() == STATE.keys()
    assert state["stacks"][0].keys() == STATE["stacks"][0].keys()
    for name, tensor in STATE["theta"].items():
        assert state["theta"][name].dtype == tensor.dtype
        assert state["theta"][name].stride() == tensor.stride()
        assert torch.equal(state["theta"][name], tensor)


@pytest.mark.parametrize("folder", [".", "missing"])
def test_there_may_be_no_checkpoint(tmp_path, folder):
    assert _latest(tmp_path / folder) == (None, [])


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path, keep):
    for step in (1, 5, 20, 100):
        checkpoint.save(tmp_path, step, {"step": step}, keep)
    assert _steps(tmp_path) == [1, 5, 20, 100][-keep:]


def test_a_step_can_be_saved_again(tmp_path):
    for value in (1, 2):
        checkpoint.save(tmp_path, 4, {"value": value})
    assert _latest(tmp_path)[0] == (4, {"value": 2})


def test_other_files_are_left_alone(tmp_path):
    others = ["events.out", "step-1.checkpoint", "step-00000001.checkpoint.bak", "x.partial"]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / "step-00000002.checkpoint").mkdir()
    for step in range(3, 6):
        checkpoint.save(tmp_path, step, {"step": step}, keep=1)
    assert all((tmp_path / name).read_text() == "mine" for name in others)
    assert len(list(tmp_path.iterdir())) == len(others) + 2
    assert _latest(tmp_path)[0] == (5, {"step": 5})


def _killed_as_it_writes(size):
    """An `open` for files that a kill cuts off after some bytes."""

    def opened(path, mode):
        file = open(path, mode)  # noqa: SIM115
        written = 0

        class Cut:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                nonlocal written
                written += file.write(data[: max(0, size - written)])
                if written == size:
                    raise Killed

        return Cut()

    return opened


@settings(max_examples=40)
@given(share=st.floats(0, 1))
def test_a_kill_while_writing_loses_nothing(content, share):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        checkpoint.save(folder, 1, {"step": 1})
        patch.setattr(Path, "open", _killed_as_it_writes(int(share * len(content))))
        with pytest.raises(Killed):
            checkpoint.save(folder, 2, STATE, keep=1)
        patch.undo()
        assert _latest(folder) == ((1, {"step": 1}), [])
        assert len(list(folder.iterdir())) == 2
        checkpoint.save(folder, 2, {"step": 2})
        assert len(list(folder.iterdir())) == 2
        assert _latest(folder) == ((2, {"step": 2}), [])


@pytest.mark.parametrize(
    ("owner", "call", "left"),
    [(Path, "replace", 1), (os, "fsync", 1), (Path, "unlink", 2)],
    ids=["before it has its name", "before it is on disk", "before old ones are gone"],
)
def test_a_kill_between_two_steps_of_saving_loses_nothing(tmp_path, owner, call, left, monkeypatch):
    def killed(*_):
        raise Killed

    checkpoint.save(tmp_path, 1, {"step": 1})
    monkeypatch.setattr(owner, call, killed)
    with pytest.raises(Killed):
        checkpoint.save(tmp_path, 2, {"step": 2}, keep=1)
    monkeypatch.undo()
    assert _latest(tmp_path) == ((left, {"step": left}), [])
    checkpoint.save(tmp_path, 3, {"step": 3}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003.checkpoint"]


def test_all_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(handle):
        calls.append(("fsync", os.fstat(handle).st_size, os.path.isdir(f"/dev/fd/{handle}")))
        fsync(handle)

    def note_replace(self, target):
        calls.append(("replace", self.stat().st_size, False))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    size = checkpoint.save(tmp_path, 1, STATE).stat().st_size
    assert calls[:2] == [("fsync", size, False), ("replace", size, False)]
    assert [(name, is_folder) for name, _, is_folder in calls[2:]] == [("fsync", True)]


def _check_second_is_skipped(content):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = checkpoint.save(folder, 1, {"step": 1})
        second = folder / "step-00000002.checkpoint"
        second.write_bytes(content)
        found, messages = _latest(folder)
        assert found == (1, {"step": 1})
        assert len(messages) == 1
        assert str(second) in messages[0]
        assert f"using {first} instead" in messages[0]


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 40, 0.5, -1000, -1])
def test_a_truncated_checkpoint_is_skipped(content, size):
    _check_second_is_skipped(content[: int(size * len(content)) if size == 0.5 else size])


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_byte_is_noticed(content, place, flip):
    position = int(place * len(content))
    flipped = bytes([content[position] ^ flip])
    _check_second_is_skipped(content[:position] + flipped + content[position + 1 :])


@pytest.mark.parametrize("more", [b"\0", bytes(1000)])
def test_a_checkpoint_with_something_after_it_is_skipped(content, more):
    _check_second_is_skipped(content + more)


def test_several_damaged_checkpoints_are_skipped(tmp_path, monkeypatch):
    paths = [checkpoint.save(tmp_path, step, {"step": step}) for step in (1, 2, 3)]
    paths[2].write_bytes(b"")
    read = Path.read_bytes

    def failing(self):
        if self == paths[1]:
            raise OSError("input/output error")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", failing)
    found, messages = _latest(tmp_path)
    assert found == (1, {"step": 1})
    assert len(messages) == 2
    assert f"{paths[2]} is damaged" in messages[0]
    assert f"{paths[1]} cannot be read (input/output error)" in messages[1]


def test_warns_by_itself(tmp_path):
    paths = [checkpoint.save(tmp_path, step, {"step": step}) for step in (1, 2)]
    paths[1].write_bytes(b"no")
    with pytest.warns(UserWarning, match="step-00000002.checkpoint is damaged"):
        assert checkpoint.latest(tmp_path) == (1, {"step": 1})


def test_a_damaged_checkpoint_does_not_push_out_a_whole_one(tmp_path):
    checkpoint.save(tmp_path, 10, {"step": 10}, keep=1)
    (tmp_path / "step-00000030.checkpoint").write_bytes(b"damaged")
    checkpoint.save(tmp_path, 20, {"step": 20}, keep=1)
    assert _latest(tmp_path)[0] == (20, {"step": 20})
    checkpoint.save(tmp_path, 40, {"step": 40}, keep=1)
    assert _steps(tmp_path) == [40]


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    paths = [checkpoint.save(tmp_path, step, {"step": step}) for step in (1, 2)]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MetaTrainError, match="move the folder away") as caught:
        _latest(tmp_path)
    assert all(str(path) in str(caught.value) for path in paths)


class Code:
    """What a checkpoint must not bring back to life."""


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(MetaTrainError, match="Code"):
        checkpoint.save(tmp_path, 1, {"rule": Code()})
    assert list(tmp_path.iterdir()) == []


def test_no_code_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.serialization, "get_unsafe_globals_in_checkpoint", lambda _: [])
    checkpoint.save(tmp_path, 1, {"rule": Code()})
    with pytest.raises(MetaTrainError, match="cannot be read"):
        _latest(tmp_path)


@pytest.mark.parametrize(("step", "keep"), [(-1, 3), (1, 0)])
def test_impossible_numbers_are_refused(tmp_path, step, keep):
    with pytest.raises(MetaTrainError, match=r"Use step >= 0, keep >= 1"):
        checkpoint.save(tmp_path, step, STATE, keep)


def _draws():
    return (
        [random.random() for _ in range(3)] + [random.gauss(0, 1)],
        [numpy.random.rand(3).tolist(), float(numpy.random.randn())],
        torch.rand(3).tolist() + torch.randn(17).tolist(),
    )


def test_random_states_go_through_a_checkpoint(tmp_path):
    random.gauss(0, 1), numpy.random.randn()  # each of these keeps half a pair for later
    checkpoint.save(tmp_path, 1, {"random": checkpoint.random_state()})
    expected = _draws()
    assert _draws() != expected
    (_, state), _ = _latest(tmp_path)
    checkpoint.restore_random_state(state["random"])
    assert _draws() == expected


@pytest.mark.gpu
def test_random_states_of_gpus_go_through_a_checkpoint(tmp_path):
    checkpoint.save(tmp_path, 1, {"random": checkpoint.random_state()})
    expected = [torch.rand(5, device=f"cuda:{i}").cpu() for i in range(torch.cuda.device_count())]
    (_, state), _ = _latest(tmp_path)
    checkpoint.restore_random_state(state["random"])
    for number, draws in enumerate(expected):
        assert torch.equal(torch.rand(5, device=f"cuda:{number}").cpu(), draws)


def test_random_numbers_go_on_as_if_nothing_had_been_drawn():
    def draw():
        return random.random(), numpy.random.rand(), torch.rand(()).item()

    torch.manual_seed(3)
    random.seed(3)
    numpy.random.seed(3)
    expected = draw()
    torch.manual_seed(3)
    random.seed(3)
    numpy.random.seed(3)
    with checkpoint.undisturbed():
        draw()
    assert draw() == expected
