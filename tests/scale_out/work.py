"""What each of several processes does for the tests, and what one does that is right."""

import copy
import warnings
from unittest.mock import patch

import torch
import torch.distributed.checkpoint as dcp
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor

from ngopt.graph.trace import trace
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.rule_inputs import randomize

PROCESSES = 4
SOME = 2
"""Number of processes that work where not all do."""

STEPS, SAVED = 14, 12
"""In all, of which the first ten look at the whole model; and before a checkpoint is written."""

OPTIONS = {"lr": 1e-2, "weight_decay": 0.1}
BY_SOME = "MatrixGNN"
"""The rule with which some of the processes step as well."""
RULES = {
    "Adam": Adam,
    "MatrixGNN": lambda: randomize(MatrixGNN(context_every=4)),
    "whitened": lambda: randomize(MatrixGNN(context_every=4, base_update={"whitening_limit": 64})),
}


def net(device="cpu"):
    """A net whose sizes cannot be divided by the number of processes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double().to(device)


def graph_of():
    """Its graph, for nets that cannot be traced because they are sharded."""
    return trace(net(), torch.zeros(1, 6, dtype=torch.float64))


def train(model, optimizer, part=slice(None), start=0, steps=STEPS):
    """Take steps on a part of each batch of 8."""
    device = next(model.parameters()).device
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        drawn = (torch.randn(8, n, generator=generator, dtype=torch.float64) for n in (6, 3))
        x, y = (tensor.to(device) for tensor in drawn)
        optimizer.zero_grad()
        (model(x[part]) - y[part]).square().mean().backward()
        optimizer.step()


def full(model):
    """The parameters, whole."""
    return [getattr(p, "full_tensor", lambda p=p: p)().detach() for p in model.parameters()]


def data_parallel(rule, rank, group, device="cpu"):
    """DistributedDataParallel over the processes of a group."""
    model = nn.parallel.DistributedDataParallel(net(device), process_group=group)
    optimizer = NeuralGraphOptimizer(model.module, rule=rule, **OPTIONS)
    train(model, optimizer, slice(rank, None, group.size()))
    return {"params": full(model)}


def sharded_net(mesh):
    """The net, sharded with FSDP2."""
    model = net(mesh.device_type)
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def sharded(rule, rank, mesh):
    """FSDP2 over the processes of a mesh, with a `state_dict` in between."""
    model, graph = sharded_net(mesh), graph_of()
    optimizer = NeuralGraphOptimizer(model, rule=rule, graph=graph, **OPTIONS)
    part = slice(rank, None, mesh.size())
    train(model, optimizer, part, steps=SAVED)
    saved = copy.deepcopy(optimizer.state_dict())
    resumed = NeuralGraphOptimizer(model, rule=rule, graph=graph, **OPTIONS)
    resumed.load_state_dict(saved)
    train(model, resumed, part, SAVED, STEPS - SAVED)
    weight = model[0].weight
    alike = [
        isinstance(value, DTensor) and value.placements == weight.placements
        for value in resumed.state[weight].values()
        if value.shape == weight.shape
    ]
    hidden = sorted(space.size for space in resumed.graph.hidden)
    return {"params": full(model), "alike": alike, "hidden": hidden}


class Words(nn.Module):
    """A small transformer whose rows cannot be divided evenly, nor its bundles as they are."""

    def __init__(self):
        super().__init__()
        self.words, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        # Queries, keys and values as columns of one matrix, and as rows.
        self.first = nn.Parameter(torch.randn(8, 24) / 3)
        # The bias of keys has no gradient but rounding errors.
        self.second = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
        self.over, self.head = nn.Conv1d(8, 6, 3, padding=1), nn.Linear(6, 7)

    def forward(self, x):
        hidden = self.norm(self.words(x))
        parts = (hidden @ self.first).chunk(3, -1)
        hidden = hidden + nn.functional.scaled_dot_product_attention(*parts)
        hidden = hidden + self.second(hidden, hidden, hidden, need_weights=False)[0]
        return self.head(torch.tanh(self.over(hidden.mT)).mT)


def words():
    torch.manual_seed(0)
    return Words()


def train_on_words(model, optimizer, part=slice(None), start=0, steps=STEPS):
    """Take steps on a part of each batch of 8; the gradient of one of them is not finite."""
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        x, y = (torch.randint(n, (8, 5), generator=generator) for n in (11, 7))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[part]).flatten(0, 1), y[part].flatten())
        (loss * (float("nan") if step == 3 else 1.0)).backward()
        optimizer.step()


def optimizer_of_words(model):
    graph = trace(words(), torch.zeros(1, 5, dtype=torch.int64))
    # In bfloat16, rounding errors of momenta would become visible.
    rule = randomize(MatrixGNN(context_every=4, momentum_dtype="float32"))
    return NeuralGraphOptimizer(model, rule=rule, graph=graph, **OPTIONS)


def not_gathered(rank, mesh):
    """FSDP2 in single precision, where no process may ask for a whole tensor."""
    model = words()
    fully_shard(model.second, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer, part = optimizer_of_words(model), slice(rank, None, mesh.size())
    with patch.object(DTensor, "full_tensor", side_effect=AssertionError):
        train_on_words(model, optimizer, part, steps=SAVED)
        saved = copy.deepcopy(optimizer.state_dict())
        optimizer = optimizer_of_words(model)
        optimizer.load_state_dict(saved)
        train_on_words(model, optimizer, part, SAVED, STEPS - SAVED)
    held = sum(
        value.to_local().numel()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, DTensor)
    )
    return {"params": full(model), "held": held, "skipped": optimizer.skipped_steps}


def write_checkpoint(rule, rank, mesh, folder):
    """Train for some steps, and write model and optimizer with all processes."""
    model = sharded_net(mesh)
    optimizer = NeuralGraphOptimizer(model, rule=rule, graph=graph_of(), **OPTIONS)
    train(model, optimizer, slice(rank, None, mesh.size()), steps=SAVED)
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder)
    return {"names": list(state["state"])}


def go_on(model, rule, folder, rank=0, processes=1, group=None):
    """Read what :func:`write_checkpoint` wrote, with other processes, and train on."""
    optimizer = NeuralGraphOptimizer(model, rule=rule, graph=graph_of(), **OPTIONS)
    weights, state = get_state_dict(model, optimizer)
    content = {"model": weights, "optimizer": state}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninit")
        dcp.load(content, checkpoint_id=folder, process_group=group)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=content["model"],
        optim_state_dict=content["optimizer"],
    )
    train(model, optimizer, slice(rank, None, processes), SAVED, STEPS - SAVED)
    return {"params": full(model)}


def zero(rule, rank, group):
    """ZeroRedundancyOptimizer, which gives each process some of the tensors."""
    model = nn.parallel.DistributedDataParallel(net(), process_group=group)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on its own code
        optimizer = ZeroRedundancyOptimizer(
            model.parameters(), NeuralGraphOptimizer, process_group=group, rule=rule, **OPTIONS
        )
        train(model, optimizer, slice(rank, None, group.size()))
    return {"params": full(model)}


def work(rank, folder):
    """All that one process does; its results go to a file of the folder."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=PROCESSES)
    everyone, some = distributed.group.WORLD, distributed.new_group(list(range(SOME)))
    mesh = init_device_mesh("cpu", (PROCESSES,))
    results = {}
    for name, rule in RULES.items():
        checkpoint = f"{folder}/{name}"
        results["data parallel", name, PROCESSES] = data_parallel(rule(), rank, everyone)
        results["sharded", name, PROCESSES] = sharded(rule(), rank, mesh)
        results["zero", name, PROCESSES] = zero(rule(), rank, everyone)
        results["written", name, PROCESSES] = write_checkpoint(rule(), rank, mesh, checkpoint)
        if rank < SOME:
            fewer = DeviceMesh.from_group(some, "cpu")
            if name == BY_SOME:
                results["data parallel", name, SOME] = data_parallel(rule(), rank, some)
                results["sharded", name, SOME] = sharded(rule(), rank, fewer)
            model = sharded_net(fewer)
            results["read", name, SOME] = go_on(model, rule(), checkpoint, rank, SOME, some)
        distributed.barrier()
    results["not gathered", PROCESSES] = not_gathered(rank, mesh)
    if rank < SOME:
        results["not gathered", SOME] = not_gathered(rank, DeviceMesh.from_group(some, "cpu"))
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
