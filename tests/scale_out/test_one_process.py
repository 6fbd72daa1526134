"""A group of one process, on the CPU and on a GPU: being wrapped or sharded makes no difference."""

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from ngopt.optim.optimizer import NeuralGraphOptimizer
from tests.scale_out.work import OPTIONS, RULES, data_parallel, full, graph_of, net, sharded, train


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, tmp_path):
    backend = {"cpu": "gloo", "cuda": "nccl"}[request.param]
    store = f"file://{tmp_path}/store"
    distributed.init_process_group(backend, init_method=store, rank=0, world_size=1)
    yield request.param
    distributed.destroy_process_group()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", ["data parallel", "sharded"])
def test_the_same_as_without_a_group(device, how, rule):
    model = net(device)
    train(model, NeuralGraphOptimizer(model, rule=RULES[rule](), graph=graph_of(), **OPTIONS))
    if how == "sharded":
        found = sharded(RULES[rule](), 0, init_device_mesh(device, (1,)))
        assert all(found["alike"])
    else:
        found = data_parallel(RULES[rule](), 0, distributed.group.WORLD, device)
    torch.testing.assert_close(found["params"], full(model), rtol=1e-5, atol=1e-5)
