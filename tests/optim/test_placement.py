import torch

from ngopt.optim.placement import gather, place

CPU = torch.device("cpu")


def test_a_whole_tensor_in_its_place_is_not_copied():
    tensor = torch.ones(2)
    assert gather(tensor, CPU) is tensor
    assert place(tensor, torch.zeros(2)) is tensor


def test_devices_are_changed_there_and_back():
    there = gather(torch.ones(2), torch.device("meta"))
    assert there.device.type == "meta"
    assert place(torch.ones(2), there).device.type == "meta"


class _Sharded:
    """Half of a tensor in each of two processes, as far as gathering is concerned."""

    def full_tensor(self):
        return torch.arange(4.0)


def test_a_sharded_tensor_is_gathered():
    assert gather(_Sharded(), CPU).tolist() == [0, 1, 2, 3]
