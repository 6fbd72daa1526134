import pytest
import torch

from ngopt.fused import switch
from ngopt.fused.build import NoCompilerError
from ngopt.fused.switch import plain
from ngopt.replay import program
from ngopt.replay import replay as replay_module
from ngopt.replay.replay import EAGER, KEPT, LOGGER, REMEMBERED, WORTH, Replay


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.function(*arguments)


@pytest.fixture(autouse=True)
def _no_derivatives():
    with torch.no_grad():
        yield


def test_recorded_once_for_all_arguments_that_look_alike():
    function = Counted(lambda a, more: {"sum": a + more["b"], "twice": (a * 2,)})
    replay = Replay(function)
    for _ in range(3):
        a, b = torch.randn(2, 3), torch.randn(3)
        found = replay(a, {"b": b})
        assert torch.equal(found["sum"], a + b)
        assert torch.equal(found["twice"][0], a * 2)
    assert function.calls == 1


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.randn(3, 2)},
        {"b": torch.randn(2, 3).double()},
        {"b": torch.randn(3, 2).mT},
        {"c": torch.randn(2, 3)},
    ],
    ids=["shape", "dtype", "strides", "name"],
)
def test_recorded_again_for_others(other):
    function = Counted(lambda given: {name: tensor + 1 for name, tensor in given.items()})
    replay = Replay(function)
    replay({"b": torch.randn(2, 3)})
    found = replay(other)
    assert function.calls == 2
    assert found.keys() == other.keys()
    for name, tensor in other.items():
        assert torch.equal(found[name], tensor + 1)


def test_results_are_new_tensors():
    constant = torch.randn(3)
    replay = Replay(lambda a: (a, constant, a.mT, (a + 1)[0], a + 2, a + 2))
    a = torch.randn(2, 3)
    first, second = replay(a), replay(a)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
        assert one.data_ptr() not in (other.data_ptr(), a.data_ptr(), constant.data_ptr())
    first[0].zero_()
    assert torch.equal(replay(a)[0], a)


def test_results_keep_their_order_of_memory():
    turned = torch.randn(3, 2).mT
    found = Replay(lambda a: (a, a + 1))(turned)
    assert [tensor.stride() for tensor in found] == [turned.stride()] * 2


def test_constants_may_change_in_place():
    weight = torch.ones(3)
    replay = Replay(lambda a: a * weight)
    replay(torch.ones(3))
    weight.fill_(5)
    assert replay(torch.ones(3)).tolist() == [5, 5, 5]


def test_large_products_are_torchs(monkeypatch):
    torchs = []
    original = torch.bmm
    monkeypatch.setattr(program, "LARGE_PRODUCT", 1000)
    monkeypatch.setattr(torch, "bmm", lambda *a, **k: torchs.append(1) or original(*a, **k))
    weight = torch.randn(20, 20)

    def function(a, b):
        product = (a + 1) @ weight
        other = torch.baddbmm(a[None] + 1, b, b.mT, beta=2, alpha=3)[0]
        return product @ a + other, a @ a

    replay = Replay(function)
    for kept in (2**24, 0):
        monkeypatch.setattr(program, "KEPT_MEMORY", kept)
        for _ in range(2):
            a, b = torch.randn(40, 20)[::2], torch.randn(1, 20, 25)
            for found, expected in zip(replay(a, b), function(a, b), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
        replay = Replay(function)
    assert len(torchs) == 4 * 3


@pytest.mark.parametrize("large", [False, True], ids=["interpreted", "torch's products"])
def test_several_runs(large, monkeypatch):
    monkeypatch.setattr(program, "LARGE_PRODUCT", 1 if large else 2**21)
    function = Counted(
        lambda shared, run: {"product": shared["w"] @ run["x"].mT, "copy": (run["y"].mT,)}
    )
    replay = Replay(function)
    weight = torch.randn(4, 3)
    for count in (1, 5):
        x, y = torch.randn(count, 2, 3), torch.randn(count, 2, 3)
        found = replay.each({"w": weight}, {"x": x, "y": y}, count)
        torch.testing.assert_close(found["product"], weight @ x.mT)
        assert torch.equal(found["copy"][0], y.mT)
    assert function.calls == 1
    with plain():
        assert replay.each({"w": weight}, {"x": x, "y": y}, 5) is None


def test_within_another_recording_it_is_part_of_that():
    inside = Counted(lambda a: a * 2)
    inner = Replay(inside)

    def function(a):
        found = inner(a + 1)
        return inside(a + 1) if found is None else found

    outer = Replay(function)
    for _ in range(2):
        a = torch.randn(3)
        assert torch.equal(outer(a), (a + 1) * 2)
    assert inside.calls == 1


def test_where_nothing_is_replayed():
    function = Counted(lambda a: a + 1)
    replay = Replay(function)
    with torch.enable_grad():
        assert replay(torch.ones(2)) is None
    with plain():
        assert replay(torch.ones(2)) is None
    assert replay(torch.ones(2, device="meta")) is None
    assert torch.vmap(lambda a: a if replay(a) is None else a + 7)(torch.ones(2)).tolist() == [1, 1]
    assert function.calls == 0
    assert replay(torch.ones(2)).tolist() == [2, 2]


def test_what_looks_different_each_time_is_not_recorded_each_time():
    function = Counted(lambda a: a + 1)
    replay = Replay(function)
    found = [replay(torch.ones(size)) is not None for size in range(1, 200)]
    assert found == [True] * EAGER + [False] * (199 - EAGER)
    assert function.calls == EAGER
    assert len(replay._waiting) <= REMEMBERED


def test_what_comes_often_is_recorded_after_a_while_and_few_are_kept():
    replay = Replay(lambda a: a + 1)
    sizes = range(1, 3 * KEPT)
    runs = [[replay(torch.ones(n)) is not None for n in sizes] for _ in range(2 * WORTH)]
    assert not any(runs[WORTH - 1][EAGER:])
    assert all(runs[WORTH])
    assert replay.recordings == KEPT
    assert torch.equal(replay(torch.ones(sizes[-1])), torch.full((sizes[-1],), 2.0))


@pytest.mark.slow_steps
def test_what_has_no_instructions_is_tried_once_and_told(caplog):
    function = Counted(lambda a: a.sort().values)
    replay = Replay(function)
    with caplog.at_level("INFO", logger="ngopt"):
        assert replay(torch.ones(2)) is None
        assert replay(torch.ones(2)) is None
    assert function.calls == 1
    (told,) = caplog.messages
    assert "slower" in told
    assert "aten.sort" in told


@pytest.mark.slow_steps
def test_without_the_mark_this_would_fail():
    (listener,) = LOGGER.handlers
    assert not listener.reasons
    Replay(lambda a: a.sort().values)(torch.ones(2))
    assert len(listener.reasons) == 1


def test_no_compiler_is_no_error(monkeypatch):
    def refuse(recording):
        raise NoCompilerError("none is installed")

    monkeypatch.setattr(switch, "_off", False)
    monkeypatch.setattr(replay_module, "Program", refuse)
    replay = Replay(lambda a: a + 1)
    with pytest.warns(UserWarning, match="none is installed"):
        assert replay(torch.ones(2)) is None
    assert replay(torch.ones(2)) is None


def test_tensors_without_entries_among_others():
    replay = Replay(lambda a, b: (a, a + 1, a.sum() + b, torch.cat([a[0], b]), (b[:0], b[2:])))
    for _ in range(2):
        a, b = torch.empty(3, 0), torch.randn(2)
        found = replay(a, b)
        for one, expected in zip(found[:2], (a, a + 1), strict=True):
            assert one.shape == expected.shape
        assert torch.equal(found[2], b)
        assert torch.equal(found[3], b)
        assert [part.shape for part in found[4]] == [(0,), (0,)]


def test_nothing_to_do():
    assert Replay(lambda: ())() == ()
