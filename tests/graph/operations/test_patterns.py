import itertools

import pytest
import torch

from ngopt.errors import TraceError
from ngopt.graph.operations.patterns import register_operation
from tests.graph.operations.between import hidden, traced, words

NUMBERS = itertools.count()


def custom(body, *handler):
    """A new custom operator, taught to tracing, and called by a function that can be copied."""

    def run(x: torch.Tensor) -> torch.Tensor:
        return body(x)

    made = torch.library.custom_op(f"ngopt_test_patterns::op{next(NUMBERS)}", run, mutates_args=())
    if handler:
        register_operation(made, *handler)
    return lambda h: made(h)


@pytest.mark.parametrize(
    ("body", "pattern", "arrangement", "expected"),
    [
        (lambda x: 2 * x, "... -> ...", "last", "12"),
        (lambda x: x.sum(-1), "... i -> ...", "last", "12"),
        (lambda x: x.sum(1), "b i d -> b d", "nested", "3, 4"),
        (lambda x: x.transpose(1, 2).clone(), "b t i -> b i t", "last", "12"),
        (lambda x: x.cumsum(-1), "... i! -> ... i!", "last", ""),
        (lambda x: x.cumsum(1), "b t! i -> b t! i", "last", "12"),
        (lambda x: x.cumsum(1), "b t! i -> b t! i", "nested", "4"),
        (lambda x: torch.stack([x, x.cos()]), "... -> copy ...", "last", "12"),
    ],
)
def test_patterns(body, pattern, arrangement, expected):
    assert hidden(custom(body, pattern), arrangement) == expected


def test_rules_written_as_functions():
    def handler(recorder, out, x):
        recorder.put(out, recorder.axes(x))

    assert hidden(custom(torch.tanh, handler)) == "12"


def test_without_a_rule_an_operation_is_unknown():
    graph = traced(custom(torch.tanh))
    assert words(graph) == ""
    assert len(graph.unknown) == 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("... i, o i", "it needs one `->`"),
        ("a -> b -> c", "it needs one `->`"),
        ("... 3 -> ...", "axes need names"),
    ],
)
def test_patterns_that_cannot_be_read_are_refused(pattern, message):
    with pytest.raises(TraceError, match=message):
        register_operation(torch.tanh, pattern)


@pytest.mark.parametrize("pattern", ["a b -> a b", "..., ... -> ..."])
def test_patterns_that_do_not_fit_are_refused(pattern):
    with pytest.raises(TraceError, match=r"does not fit its arguments, of shapes \[\(2, 4, 12\)\]"):
        traced(custom(torch.tanh, pattern))
