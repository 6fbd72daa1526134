import pytest
import torch

from ngopt.errors import TraceError
from ngopt.graph.axes import name_axes
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import Atom, size

SHAPES = {"a": (6, 5), "b": (6,), "c": (4, 6, 3), "d": (1, 6)}


def known():
    recorder = TraceRecorder()
    return recorder, {
        name: recorder.add_parameter(name, torch.zeros(shape)) for name, shape in SHAPES.items()
    }


def named(**axes):
    recorder, parameters = known()
    return name_axes(recorder, parameters, axes)


def test_equal_words_are_the_same_neurons():
    result = named(a="out in", b="out", c="other out 1")
    assert result["a"][0] is result["b"][0] is result["c"][1]
    assert len({id(term) for terms in result.values() for term in terms}) == 4
    assert [[size(term) for term in terms] for terms in result.values()] == [[6, 5], [6], [4, 6, 3]]
    assert not result["a"][0].pin


def test_only_what_is_named_is_replaced():
    assert list(named(b="out")) == ["b"]
    assert named() == {}


def test_what_tracing_finds_is_kept():
    assert named(a="_ _") == {"a": [None, None]}
    assert named(a="_ in")["a"][0] is None


def test_pinned_words():
    result = named(a="place! in", b="place!")
    assert result["a"][0] is result["b"][0]
    assert result["a"][0].pin == "pinned by hand"
    assert not result["a"][0].free
    assert not result["a"][1].pin


def test_axes_without_neurons_are_each_their_own():
    result = named(a="1 1", b="1")
    terms = [*result["a"], *result["b"]]
    assert all(isinstance(term, Atom) and term.free for term in terms)
    assert len({id(term) for term in terms}) == 3


def test_words_stand_for_axes_of_size_one_too():
    result = named(d="one out", b="out")
    assert size(result["d"][0]) == 1
    assert result["d"][1] is result["b"][0]


def test_named_neurons_count_as_seen():
    assert named(b="out")["b"][0].seen is not None


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"e": "out in"}, r"the parameter `e`, which the model does not have\. .*: `a`, `b`, `c`"),
        ({"a": "out"}, r"gives 1 words for `a` \('out'\), .* \(6, 5\)\.\n.*such as 'out in'\."),
        ({"c": "out in"}, r"gives 2 words for `c` .* \(4, 6, 3\)\.\n.*such as 'out in 1'\."),
        ({"b": "out in"}, r"gives 2 words for `b` .* \(6,\)\.\n.*such as 'out'\."),
        ({"b": ""}, r"gives 0 words for `b`"),
        ({"a": "n n"}, r"an axis of `a` of size 5 'n', but 'n' has size 6 elsewhere\.\n  Give"),
        ({"b": "n!", "c": "n! _ _"}, r"an axis of `c` of size 4 'n!', but 'n!' has size 6"),
    ],
)
def test_what_does_not_fit_is_refused(axes, message):
    with pytest.raises(TraceError, match=message):
        named(**axes)
