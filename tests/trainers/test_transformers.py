"""NeuralGraphOptimizer in `transformers.Trainer` does what it does in a loop of torch."""

import pytest
import torch
from torch import nn

from tests.trainers.plain import BATCH, Points, assert_same, by_hand, halving, net, ours

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")


class Classifier(nn.Module):
    """The net in the form that `Trainer` wants: it returns its loss."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x, labels):
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def collated(points):
    return {"x": torch.stack([x for x, _ in points]), "labels": torch.stack([y for _, y in points])}


class InOrder(transformers.Trainer):
    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def fit(folder, epochs=1, resume=None, schedule=None, **options):
    model = Classifier()
    optimizer = ours(model.net)
    scheduler = schedule(optimizer) if schedule else None
    if scheduler is None:
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        num_train_epochs=epochs,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        **{"max_grad_norm": 0.0, "save_strategy": "no", **options},
    )
    trainer = InOrder(
        model,
        arguments,
        train_dataset=Points(),
        data_collator=collated,
        optimizers=(optimizer, scheduler),
    )
    trainer.train(resume_from_checkpoint=resume)
    return model.net, trainer


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({}, {}),
        ({"max_grad_norm": 0.1}, {"clip": 0.1}),
        ({"schedule": halving}, {"schedule": halving}),
    ],
    ids=["plain", "clipping", "schedule"],
)
def test_as_by_hand(options, plain, tmp_path):
    model, _ = fit(tmp_path, 2, **options)
    assert_same(model, by_hand(2, **plain)[0])


def test_accumulation(tmp_path):
    model, _ = fit(tmp_path, 2, gradient_accumulation_steps=4)
    expected, _ = by_hand(2, accumulate=4)
    for found, weight in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, weight)


def test_checkpoints_go_on_to_the_last_bit(tmp_path):
    fit(tmp_path, save_strategy="epoch")
    (half,) = tmp_path.glob("checkpoint-*")
    model, _ = fit(tmp_path, 2, resume=str(half))
    assert_same(model, by_hand(2)[0])
