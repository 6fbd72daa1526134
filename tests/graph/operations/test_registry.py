import operator

import pytest
import torch
from torch.nn import functional

from ngopt.graph.operations import registry


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.add, "add"),
        (torch.Tensor.add_, "add"),
        (torch.Tensor.__radd__, "radd"),
        (torch.Tensor.__iadd__, "iadd"),
        (torch.Tensor.__rand__, "and"),
        (torch.rand, "rand"),
        (torch.Tensor.__getitem__, "__getitem__"),
        (torch.Tensor.real.__get__, "real"),
        (functional.relu_, "relu"),
        (torch.special.softmax, "softmax"),
        (torch._weight_norm, "weight_norm"),
    ],
)
def test_the_faces_of_an_operation_have_one_name(function, name):
    assert registry.name_of(function) == name


def test_rules_are_for_torchs_functions_only():
    def relu(x):
        return x.flip(-1)

    assert registry.find(torch.relu) is not None
    assert registry.find(relu) is None
    assert registry.find(operator.itemgetter(0)) is None


def test_a_second_rule_for_a_name_is_refused():
    with pytest.raises(ValueError, match="operation `relu` has a handler already"):
        registry.operation("relu")(lambda recorder, out, input: None)


def test_a_rule_accepts_what_its_signature_takes():
    known = registry.Operation(lambda recorder, out, input, dim=0: None, "other")
    assert known.accepts(None, None, None, dim=1)
    assert not known.accepts(None, None, None, axis=1)
