"""What pages take as known, and how what takes long in them is made short."""

import sys
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import distributed, nn

import ngopt
from meta_train.board.options import BoardOptions
from meta_train.tasks.family import FAMILIES
from meta_train.zoo.inr import InrOptions, run_inr
from tests import learn2learn


@contextmanager
def anything():
    """Of a page whose blocks are complete."""
    yield {}


@contextmanager
def loop():
    """Of a page that speaks of somebody's training loop."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(16, 4)
    yield {
        "ngopt": ngopt,
        "NeuralGraphOptimizer": ngopt.NeuralGraphOptimizer,
        "model": model,
        "x": x,
        "batches": [(x, x[:, :2])] * 3,
        "loss": torch.tensor(1.0),
    }


@contextmanager
def loop_with_own_rule():
    """The same, with a rule in a file."""
    ngopt.save_rule(ngopt.rules.MatrixGNN(width=4), "mine.safetensors")
    with loop() as given:
        yield given


@contextmanager
def meta_training():
    """The same, and a board without the curves that take longest."""
    with loop_with_own_rule() as given:
        yield {**given, "NO_CURVES": BoardOptions(every=0)}


@contextmanager
def process():
    """Of a page about several processes: the only one of its group."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.optim import ZeroRedundancyOptimizer

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        with loop() as given:
            yield {
                **given,
                "net": given["model"],
                "fully_shard": fully_shard,
                "DistributedDataParallel": nn.parallel.DistributedDataParallel,
                "ZeroRedundancyOptimizer": ZeroRedundancyOptimizer,
            }
    finally:
        distributed.destroy_process_group()


@contextmanager
def trainers():
    """Of a page about libraries that keep what was first asked of them for the whole process."""
    yield {}
    if accelerate := sys.modules.get("accelerate"):
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


class Points(torch.utils.data.Dataset):
    """20 classes of 20 points each."""

    def __len__(self):
        return 400

    def __getitem__(self, index):
        return torch.randn(3), index % 20


@contextmanager
def few_shots():
    """Of the page about learn2learn."""
    if find_spec("learn2learn") is not None:
        if find_spec("lightning") is not None:
            import_module("lightning")  # which must not see what learn2learn takes for torchvision
        learn2learn.require()
    yield {"my_dataset": Points(), "my_model": lambda ways: nn.Linear(3, ways)}
    FAMILIES.pop("characters", None)


@contextmanager
def zoo():
    """Of the page about networks that read networks: a small zoo."""
    run_inr(InrOptions(Path("runs/zoo/inr"), data="digits", networks=96, steps=2, width=8))
    yield {}


SETTINGS = {
    "README.md": loop_with_own_rule,
    "learn2learn.md": few_shots,
    "meta_training.md": meta_training,
    "pretrained.md": loop,
    "reading_networks.md": zoo,
    "scale_out.md": process,
    "trainers.md": trainers,
}
"""By name of the page; of other pages, :func:`anything`."""

SHORTER = {
    "meta_training.md": {"steps=200": "steps=1, problems=1, truncation=2, board=NO_CURVES"},
}
"""By name of the page: what takes long in it, and what is run in its place."""


@contextmanager
def setting(page):
    """Have what a page takes as known, in the working directory."""
    with ExitStack() as stack:
        yield stack.enter_context(SETTINGS.get(page.name, anything)())
