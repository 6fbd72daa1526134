"""Tracing is sound: what it calls hidden can be permuted, in networks that nobody wrote."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ngopt.graph.permute import permute
from ngopt.graph.trace import trace
from tests.random_program import OPERATIONS, RandomProgram

INSTRUCTION = st.tuples(
    st.sampled_from(sorted(OPERATIONS)), st.integers(0, 6), st.integers(0, 6), st.integers(0, 9)
)


PROGRAM = st.lists(INSTRUCTION, min_size=1, max_size=8)


def check(program):
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    model = RandomProgram(program, x.float()).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    graph = trace(model, x)
    assert graph.unknown == ()
    other = copy.deepcopy(model)
    for seed in range(2):
        other.load_state_dict(permute(graph, model.state_dict(), seed))
        torch.testing.assert_close(other(x), model(x), rtol=1e-8, atol=1e-8)


@settings(max_examples=60)
@given(PROGRAM)
def test_hidden_neurons_of_random_programs_can_be_permuted(program):
    check(program)


@pytest.mark.slow
@settings(max_examples=5000, derandomize=False)
@given(PROGRAM)
def test_hidden_neurons_of_many_random_programs_can_be_permuted(program):
    check(program)
