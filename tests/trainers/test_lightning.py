"""NeuralGraphOptimizer in Lightning does what it does in a loop of torch, to the last bit."""

import pytest
import torch

from tests.trainers.plain import assert_same, by_hand, halving, loader, loss_of, net, ours

lightning = pytest.importorskip("lightning")
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning"),
]


class Module(lightning.LightningModule):
    def __init__(self, schedule=None):
        super().__init__()
        self.net = net()
        self.schedule = schedule

    def training_step(self, batch, number):
        return loss_of(self.net, batch)

    def configure_optimizers(self):
        optimizer = ours(self.net)
        if self.schedule is None:
            return optimizer
        scheduler = {"scheduler": self.schedule(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def fit(folder, module=None, epochs=1, resume=None, **options):
    module = module or Module()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(module, loader(), ckpt_path=resume)
    return module, trainer


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({}, {}),
        ({"accumulate_grad_batches": 4}, {"accumulate": 4}),
        ({"gradient_clip_val": 0.1}, {"clip": 0.1}),
    ],
    ids=["plain", "accumulation", "clipping"],
)
def test_as_by_hand(options, plain, tmp_path):
    module, trainer = fit(tmp_path, epochs=2, **options)
    expected, optimizer = by_hand(2, **plain)
    assert_same(module.net, expected)
    (found,) = trainer.optimizers
    assert found.graph == optimizer.graph


def test_schedulers(tmp_path):
    module, trainer = fit(tmp_path, Module(halving))
    expected, optimizer = by_hand(schedule=halving)
    assert_same(module.net, expected)
    assert trainer.optimizers[0].param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_checkpoints_go_on_to_the_last_bit(tmp_path):
    _, trainer = fit(tmp_path)
    path = tmp_path / "half.ckpt"
    trainer.save_checkpoint(path)
    module, _ = fit(tmp_path, epochs=2, resume=path)
    assert_same(module.net, by_hand(2)[0])


def test_mixed_precision(tmp_path):
    module, _ = fit(tmp_path, epochs=3, precision="bf16-mixed")
    with torch.no_grad():
        losses = [float(loss_of(module.net, batch)) for batch in loader()]
    assert sum(losses) / len(losses) < 0.7
    assert all(weight.dtype == torch.float32 for weight in module.net.parameters())
