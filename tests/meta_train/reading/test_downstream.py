"""What encodings tell: properties, heads on encodings, and encoders that go on learning."""

import pytest
import torch
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.reading.downstream import Head, Telling, property_of
from meta_train.reading.fit import fit
from meta_train.reading.options import FitOptions


def perfect(zoo, snapshots, columns=("m1", "m2", "m3")):
    """Outputs that are sure of what is true of these columns."""
    sizes = [len(zoo.categories[name]) for name in columns]
    parts = [
        nn.functional.one_hot(zoo.columns[name][snapshots], size) * 9.0
        for name, size in zip(columns, sizes, strict=True)
    ]
    return torch.cat(parts, 1)


def test_a_language_is_right_surplus_by_surplus(rnn_zoo):
    wanted = property_of(rnn_zoo, "language")
    assert wanted.outputs == 6
    snapshots = torch.arange(10)
    outputs = perfect(rnn_zoo, snapshots)
    assert wanted.answers(outputs, snapshots).tolist() == [1] * 10
    assert wanted.loss(outputs, snapshots) < 0.01
    outputs[0, :2] = outputs[0, :2].flip(0)
    outputs[1] = torch.cat([outputs[1].view(3, 2).flip(1).flatten()])
    answers = wanted.answers(outputs, snapshots)
    assert answers[0].item() == pytest.approx(2 / 3)
    assert answers[1:].tolist() == [0, *[1] * 8]


def test_the_constant_language_is_the_commonest_of_each_surplus(rnn_zoo):
    (constant,) = property_of(rnn_zoo, "language").baselines()
    train, test = rnn_zoo.split("train"), rnn_zoo.split("test")
    right = torch.zeros(len(test))
    for name in ("m1", "m2", "m3"):
        values = rnn_zoo.columns[name]
        right += (values[test] == values[train].mode().values) / 3
    torch.testing.assert_close(torch.tensor(constant.predicted["test"]), right)
    found = constant.history[0]["test"]["surpluses right"]
    assert found == pytest.approx(float(right.mean()))


def test_labels_and_numbers_are_columns(rnn_zoo):
    step, loss = (property_of(rnn_zoo, name) for name in ("snapshot", "loss"))
    assert (step.outputs, step.scores[0].name) == (3, "accuracy")
    assert (loss.outputs, loss.scores[0].name) == (1, "Kendall tau")
    assert [b.reader for b in step.baselines()] == ["constant"]
    assert [b.reader for b in loss.baselines()] == ["constant", "hyper-parameters"]
    with pytest.raises(MetaTrainError, match="no target `colour`"):
        property_of(rnn_zoo, "colour")


def options(**more):
    given = {"epochs": 20, "batch": 12, "lr": 3e-2, "warmup": 1, "evaluations": 2, "device": "cpu"}
    return FitOptions(**{**given, **more})


def test_a_head_learns_what_encodings_tell(rnn_zoo, tmp_path):
    task = Telling(rnn_zoo, property_of(rnn_zoo, "snapshot"))
    steps = nn.functional.one_hot(rnn_zoo.columns["snapshot"], 3).float()
    told = Head(None, steps, 3, task.wanted.outputs, 0)
    blind = Head(None, torch.zeros_like(steps), 3, task.wanted.outputs, 0)
    for number, head in enumerate((told, blind)):
        fit(head, task, options(), 0, tmp_path / str(number), "test")
    assert task.evaluate(told, "test") == {"accuracy": 1.0}
    assert task.evaluate(blind, "test")["accuracy"] == pytest.approx(1 / 3)
    assert "encodings" not in told.state_dict()


class Norms(nn.Module):
    """Encodes the norm of each tensor, times a weight."""

    width = 6

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10, 6))

    def forward(self, networks):
        (stack,) = networks
        return torch.stack([p.flatten(1).norm(dim=1) for p in stack.parameters.values()], 1) @ (
            self.weight
        )


def test_an_encoder_goes_on_learning_with_its_head(rnn_zoo):
    task = Telling(rnn_zoo, property_of(rnn_zoo, "language"))
    head = Head(Norms(), None, 6, task.wanted.outputs, 0)
    task.loss(head, torch.arange(5), torch.Generator()).backward()
    assert head.encoder.weight.grad.any()
    assert set(task.evaluate(head, "test")) == {"surpluses right"}
