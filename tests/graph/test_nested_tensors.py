import collections
import dataclasses

import pytest
import torch

from ngopt.graph.nested_tensors import nested_tensors

A, B = torch.zeros(1), torch.ones(2)


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    more: object = None


class Plain:
    def __init__(self, **values):
        vars(self).update(values)


class Slotted:
    __slots__ = ()


def found(value):
    return [id(tensor) for tensor in nested_tensors(value)]


@pytest.mark.parametrize(
    "value",
    [
        (A, B),
        [A, [[B]]],
        {"a": A, "b": {"c": (B,)}},
        collections.OrderedDict(a=A, b=B),
        collections.namedtuple("Pair", "first second")(A, B),
        Output(A, Output(B)),
        Plain(a=A, inner=Plain(b=[B])),
        (None, A, "text", 3, 2.5, b"bytes", torch.Tensor, Slotted(), B),
    ],
    ids=lambda value: type(value).__name__,
)
def test_tensors_in_containers_in_order(value):
    assert found(value) == [id(A), id(B)]


def test_a_tensor_is_itself():
    assert found(A) == [id(A)]
    assert found(torch.nn.Parameter(A.clone())) != []


def test_a_tensor_in_two_places_is_found_twice():
    assert found([A, A]) == [id(A), id(A)]


def test_sets():
    assert sorted(found({A, B})) == sorted([id(A), id(B)])
    assert found(frozenset([A])) == [id(A)]


def test_values_that_contain_themselves_end():
    value = [A]
    value.append(value)
    plain = Plain(b=B)
    plain.me = plain
    assert found([value, plain]) == [id(A), id(B)]


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, (), object(), Slotted()])
def test_nothing(value):
    assert found(value) == []


def test_distributions():
    normal = torch.distributions.Normal(A, torch.ones(1))
    assert id(normal.loc) in found(normal)
    assert id(normal.scale) in found(normal)


def test_caches_of_transformers_are_left_out():
    class Cache:
        def __init__(self):
            self.keys = A

    assert found(Cache()) == [id(A)]
    Cache.__module__ = "transformers.cache_utils"
    assert found([Cache(), B]) == [id(B)]
    assert found([type("Dynamic", (Cache,), {})(), B]) == [id(B)]
