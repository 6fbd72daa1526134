import math

import pytest
import torch

from ngopt.errors import OptionError
from ngopt.monitor.measures import angle, change, rms, sizes, totals


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_rms(dtype):
    tensor = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=dtype)
    assert rms(tensor) == 2.5
    assert rms(1e-12 * tensor.double()) == pytest.approx(2.5e-12)
    assert rms(tensor.sum()) == 7
    assert rms(tensor[:0]).isnan()


def test_rms_of_a_sparse_gradient_and_of_half_precision():
    assert rms(torch.tensor([3.0, 4.0, 0.0, 0.0]).to_sparse()) == 2.5
    assert rms(torch.full((4,), 300.0, dtype=torch.float16)) == 300  # its square is none


def test_rms_has_no_derivative():
    assert not rms(torch.ones(3, requires_grad=True)).requires_grad


def test_change_in_single_precision():
    before = {"a": torch.tensor([1.0], dtype=torch.bfloat16), "gone": torch.zeros(1)}
    after = {"a": torch.tensor([1.0078125], dtype=torch.bfloat16), "new": torch.ones(1)}
    differences = change(before, after)
    assert list(differences) == ["a"]
    assert differences["a"].dtype == torch.float32
    assert differences["a"].item() == 0.0078125


def test_sizes():
    before = {"w": torch.tensor([3.0, 4.0, 0.0, 0.0]), "b": torch.zeros(1)}
    after = {"w": torch.tensor([3.0, 4.0, 1.0, 0.0]), "b": torch.ones(1), "more": torch.ones(2)}
    gradients = {"w": torch.full((4,), -7.0), "b": torch.tensor([2.0]), "more": torch.ones(2)}
    assert {tag: number.item() for tag, number in sizes(before, after, gradients).items()} == {
        "weight_rms/w": 2.5,
        "gradient_rms/w": 7.0,
        "update_rms/w": 0.5,
        "relative_update/w": pytest.approx(0.2),
        "weight_rms/b": 0.0,
        "gradient_rms/b": 2.0,
        "update_rms/b": 1.0,
        "relative_update/b": math.inf,
    }


def test_totals():
    before = {"w": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0], dtype=torch.bfloat16)}
    after = {"w": torch.tensor([3.0, 3.0]), "b": torch.tensor([8.0], dtype=torch.bfloat16)}
    gradients = {"w": torch.tensor([6.0, 8.0]), "b": torch.zeros(1), "more": torch.ones(2)}
    assert {tag: number.item() for tag, number in totals(before, after, gradients).items()} == {
        "weight_norm": 5.0,
        "gradient_norm": 10.0,
        "update_norm": 5.0,
        "relative_update": 1.0,
    }
    assert all(number.isnan() for number in totals({}, {}, {}).values())


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 1.0, 30.0, 90.0, 150.0, 179.999, 180.0])
@pytest.mark.parametrize("length", [1e-6, 1.0, 1e6])
def test_angle(degrees, length):
    radians = math.radians(degrees)
    first = torch.tensor([1.0, 0.0])
    second = length * torch.tensor([math.cos(radians), math.sin(radians)])
    assert angle(first, second).item() == pytest.approx(degrees, rel=1e-5, abs=1e-4)
    assert torch.equal(angle(first, second), angle(second, first))


def test_angle_of_a_whole_update():
    first = {"w": torch.randn(3, 4), "b": torch.randn(5, dtype=torch.float64)}
    second = {"b": torch.randn(5), "w": torch.randn(3, 4)}
    a, b = (torch.cat([tensors[n].flatten().double() for n in "wb"]) for tensors in (first, second))
    expected = math.degrees(math.acos(a @ b / (a.norm() * b.norm())))
    assert angle(first, second).item() == pytest.approx(expected, rel=1e-5)


def test_angle_to_nothing():
    assert angle(torch.zeros(3), torch.ones(3)).isnan()
    assert angle({}, {}).isnan()


def test_angle_between_updates_of_other_tensors():
    with pytest.raises(OptionError, match="different tensors: \\['a'\\] and \\['b'\\]"):
        angle({"a": torch.ones(1)}, {"b": torch.ones(1)})
