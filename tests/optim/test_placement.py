import torch

from ngopt.optim.placement import gather, place, placed_rule, without_autocast
from ngopt.rules.adam import Adam
from ngopt.rules.matrix_gnn import MatrixGNN

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


def test_a_rule_is_kept_whole_where_there_are_no_numbers():
    rule = MatrixGNN(width=2, hidden=2)
    there = placed_rule(rule, torch.device("meta"))
    assert {weight.device.type for weight in there.parameters()} == {"meta"}
    assert {weight.device.type for weight in rule.parameters()} == {"cpu"}
    assert placed_rule(rule, CPU) is rule
    formulas = Adam()
    assert placed_rule(formulas, torch.device("meta")) is formulas


def test_autocast_is_off_where_it_can_be_on():
    weight = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (weight @ weight).dtype == torch.bfloat16
        with without_autocast(CPU):
            assert (weight @ weight).dtype == torch.float32
    with without_autocast(torch.device("meta")):
        pass
