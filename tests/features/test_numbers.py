import torch

from ngopt.features.numbers import constant


def test_numbers_take_dtype_and_device():
    found = constant([[1, 2.5], [3, 4]], torch.zeros((), dtype=torch.float64))
    assert torch.equal(found, torch.tensor([[1, 2.5], [3, 4]], dtype=torch.float64))


def test_other_devices_get_a_copy_once():
    single = torch.zeros((), device="meta")
    first, again = constant([1.0, 2.0], single), constant((1.0, 2.0), single)
    assert first is again
    assert (first.device.type, first.shape, first.dtype) == ("meta", (2,), torch.float32)
    assert constant([1.0, 2.0], single.double()).dtype == torch.float64
    assert constant([1.0, 3.0], single) is not first
