import torch
from torch import nn

from benchmarks.workloads.evaluating import accuracy, evaluating


def test_a_frozen_part_in_evaluation_mode_stays_in_it():
    frozen = nn.Sequential(nn.BatchNorm1d(3)).eval()
    model = nn.Sequential(frozen, nn.Dropout())
    model.training = True
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == modes


def test_averages_of_batch_normalization_stay():
    model = nn.BatchNorm1d(2)
    with evaluating(model):
        model(torch.ones(3, 2))
    assert torch.equal(model.running_mean, torch.zeros(2))


def test_modes_come_back_after_an_error():
    model = nn.Dropout()
    try:
        with evaluating(model):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert model.training
    assert torch.is_grad_enabled()


def test_accuracy_counts_all_rows():
    labels = torch.arange(1201) % 4
    logits = torch.eye(4)[labels]
    logits[1200] = torch.eye(4)[(labels[1200] + 1) % 4]
    assert accuracy(nn.Identity(), logits, labels) == 1200 / 1201
