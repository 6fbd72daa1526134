import os
import signal
import time

import pytest
import torch

from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from tests.meta_train.forks import PATIENCE, run

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_torchrun(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_is_a_world():
    rows = torch.randn(2, 3)
    with world("cpu") as alone:
        assert (alone.rank, alone.size, alone.is_main) == (0, 1, True)
        assert alone.device == torch.device("cpu")
        assert not torch.distributed.is_initialized()
        assert torch.equal(alone.add(rows), rows)
        assert alone.gather({"a": 1}) == [{"a": 1}]
        assert alone.broadcast("text") == "text"
        alone.wait()


def _facts(together):
    return together.rank, together.size, together.is_main, str(together.device)


@pytest.mark.parametrize("size", [1, 3])
def test_processes_find_each_other(size):
    _, results = run(_facts, size)
    assert results == {rank: (rank, size, rank == 0, "cpu") for rank in range(size)}


def _rows(seed):
    return torch.randn(4, 1000, generator=torch.Generator().manual_seed(seed))


def _add(together):
    own = torch.zeros(4, 1000)
    own[together.rank :: together.size] = _rows(0)[together.rank :: together.size]
    before = own.clone()
    total = together.add(own)
    return bool(torch.equal(total, _rows(0))), bool(torch.equal(own, before))


@pytest.mark.parametrize("size", [2, 4])
def test_adding_zeros_is_exact(size):
    _, results = run(_add, size)
    assert results == dict.fromkeys(range(size), (True, True))


def _nested(rank):
    weight = torch.full((2, 3), float(rank), requires_grad=True)
    return {"weights": [{"w": 2 * weight.t()}, (rank, "text")], "none": None}


def _gather(together):
    items = together.gather(_nested(together.rank))
    if items is None:
        return None
    tensors = [item["weights"][0]["w"] for item in items]
    assert all(t.stride() == (1, 3) and not t.requires_grad for t in tensors)
    return [(t[0, 0].item(), item["weights"][1]) for t, item in zip(tensors, items, strict=True)]


def test_the_main_process_gathers():
    _, results = run(_gather, 3)
    assert results == {0: [(0.0, (0, "text")), (2.0, (1, "text")), (4.0, (2, "text"))]} | {
        1: None,
        2: None,
    }


def _broadcast(together):
    item = together.broadcast(_nested(5) if together.is_main else None)
    return item["weights"][0]["w"].sum().item(), item["none"]


def test_the_main_process_broadcasts():
    assert run(_broadcast)[1] == {0: (60.0, None), 1: (60.0, None)}


def _wait(together):
    time.sleep(0.3 * together.is_main)
    before = time.time()
    together.wait()
    return before, time.time()


def test_processes_wait_for_each_other():
    _, results = run(_wait)
    assert max(before for before, _ in results.values()) <= min(
        after for _, after in results.values()
    )


def _killed_before(collective, rank):
    def work(together):
        together.wait()
        if together.rank == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return collective(together)

    return work


@pytest.mark.parametrize(
    ("collective", "rank"),
    [
        (lambda together: together.add(torch.zeros(5)), 1),
        (lambda together: together.gather({"a": torch.zeros(5)}), 1),
        (lambda together: together.broadcast("text"), 0),
        (lambda together: together.wait(), 2),
        (lambda together: None, 0),
    ],
    ids=["add", "gather", "broadcast", "wait", "end"],
)
def test_the_others_notice_when_one_is_gone(collective, rank):
    codes, results = run(_killed_before(collective, rank), 3)
    assert codes == [-signal.SIGKILL if other == rank else 0 for other in range(3)]
    assert len(results) == 2
    for message in results.values():
        assert "cannot go on, since another one is gone" in message
        assert "Start the same command again: it resumes from the last checkpoint" in message


def _fails(together):
    together.wait()
    if together.is_main:
        raise MetaTrainError("the disk is full")
    together.wait()


def test_the_others_notice_when_one_fails():
    _, results = run(_fails)
    assert results[0] == "the disk is full"
    assert "process 1 of 2 cannot go on" in results[1]


def _told_to_stop(together):
    together.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    return "did not stop"


def test_a_process_that_is_told_to_stop_says_why():
    _, results = run(_told_to_stop)
    for message in results.values():
        assert message.startswith("Told to stop, most likely since another process is gone")
        assert "resumes from the last checkpoint" in message


def test_others_that_do_not_come_are_an_error(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    message = r"cannot find the other processes.*MASTER_ADDR"
    with pytest.raises(MetaTrainError, match=message), world("cpu"):
        pass
    assert not torch.distributed.is_initialized()


def test_signals_are_left_as_they_were():
    before = signal.getsignal(signal.SIGTERM)
    with world("cpu"):
        assert signal.getsignal(signal.SIGTERM) is before


def test_unknown_devices_are_refused():
    with pytest.raises(MetaTrainError, match="there is no device `gpu`"), world("gpu"):
        pass


def test_missing_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    message = "GPU number 1 was asked for, but this machine has 1"
    with pytest.raises(MetaTrainError, match=message), world("cuda:1"):
        pass
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(MetaTrainError, match="at most one process for each GPU"), world("cuda"):
        pass


def test_chooses_the_cpu_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with world() as alone:
        assert alone.device == torch.device("cpu")


@pytest.mark.gpu
def test_chooses_the_gpu_where_there_is_one():
    with world() as alone:
        assert alone.device == torch.device("cuda", 0)
        assert torch.equal(alone.add(torch.ones(2, device="cuda")).cpu(), torch.ones(2))
        assert alone.gather(torch.ones(2, device="cuda"))[0].device.type == "cpu"
