import pytest
import torch

from meta_train.interleave import finished, in_turns


def count(name, pauses, told):
    for number in range(pauses):
        told.append((name, number))
        yield
    return name


def test_work_is_done_to_its_result():
    told = []
    assert finished(count("a", 3, told)) == "a"
    assert told == [("a", 0), ("a", 1), ("a", 2)]


def test_without_a_gpu_one_comes_after_the_other():
    told = []
    works = [count(name, 2, told) for name in "ab"]
    assert in_turns(works, torch.device("cpu")) == ["a", "b"]
    assert told == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


@pytest.mark.gpu
def test_on_a_gpu_they_take_turns_in_streams_of_their_own():
    streams = {}

    def work(name, pauses):
        for _ in range(pauses):
            streams.setdefault(name, set()).add(torch.cuda.current_stream())
            yield
        return name

    told = []
    assert in_turns([count("a", 2, told), count("b", 1, told)], torch.device("cuda")) == ["a", "b"]
    assert told == [("a", 0), ("b", 0), ("a", 1)]
    in_turns([work("a", 3), work("b", 3)], torch.device("cuda"))
    assert all(len(used) == 1 for used in streams.values())
    assert streams["a"] != streams["b"]
