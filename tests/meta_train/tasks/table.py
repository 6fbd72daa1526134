"""Every family in one table: a new family is one line in it (more, for its choices)."""

from functools import cache

import pytest
import torch

import meta_train.tasks  # registers the families
from meta_train.tasks.family import family_of
from meta_train.tasks.task import problems

TABLE = {
    "autoencoder": "autoencoder:size=4,width=8,depth=1,code=3,activation=tanh,batch=16",
    "convnet": "convnet:width=8,depth=2,batch=32",
    "convnet of one layer": "convnet:width=16,depth=1,kernel=5,activation=elu,batch=16",
    "convnet, batch": "convnet:size=4,width=4,depth=2,norm=batch,batch=16",
    "convnet, group": "convnet:size=4,width=4,depth=2,norm=group,batch=16",
    "convnet, layer": "convnet:size=4,width=4,depth=2,norm=layer,batch=16",
    "flow": "flow:size=4,width=8,hidden=1,depth=3,activation=tanh,batch=16",
    "gnn": "gnn:nodes=12,width=8,depth=2,batch=32",
    "gpt": "gpt_lm:length=6,width=8,depth=1,heads=2,batch=8",
    "kan": "kan:size=4,width=4,depth=2,bumps=4,batch=32",
    "mixer": "mixer:size=4,patch=2,width=8,depth=1,batch=16",
    "mlp": "mlp:size=4,width=8,depth=2,activation=silu,batch=16",
    "mlp without activations": "mlp:width=8,depth=0,batch=16",
    "mlp, batch": "mlp:size=4,width=8,depth=2,norm=batch,batch=16",
    "mlp, layer": "mlp:size=4,width=8,depth=2,norm=layer,activation=gelu,batch=16",
    "moe": "moe:length=6,width=8,depth=1,heads=2,experts=3,top=2,hidden=8,batch=8",
    "moe, one": "moe:length=6,width=8,depth=1,heads=2,experts=2,top=1,hidden=8,batch=16",
    "quadratic": "quadratic:size=3,rotated=False,noise=0.0",
    "quadratic rotated": "quadratic:size=3,rotated=True,noise=0.1",
    "relational convnet": "relational:kind=convnet,size=4,width=8,depth=1,nodes=4,degree=2.0",
    "relational mlp": "relational:kind=mlp,size=4,width=8,depth=2,nodes=4,degree=2.5,batch=16",
    "residual, batch": "residual:size=4,width=4,depth=1,norm=batch,batch=16",
    "residual, group": "residual:size=4,width=8,depth=2,norm=group,batch=16",
    "residual, layer": "residual:size=4,width=4,depth=1,norm=layer,activation=gelu,batch=16",
    "rnn": "rnn_lm:length=6,width=8,cell=rnn,batch=8",
    "rnn, gru": "rnn_lm:length=6,width=8,cell=gru,batch=8",
    "rnn, lstm": "rnn_lm:length=6,width=8,cell=lstm,depth=2,batch=8",
    "rosenbrock": "rosenbrock:size=3,steepness=10.0",
    "siren": "siren:width=8,depth=2,batch=32",
    "transformer": "transformer_lm:length=6,width=8,depth=1,heads=2,batch=8",
    "unet": "unet:size=4,width=4,depth=1,batch=8",
    "unet, layer": "unet:size=8,width=4,depth=2,norm=layer,schedule=linear,batch=8",
    "vae": "vae:size=4,width=8,depth=1,code=3,activation=tanh,batch=16",
    "vit": "vit:size=4,patch=2,width=8,depth=1,heads=2,batch=16",
}
"""Options of tiny tasks, by what pytest calls them."""

RUNS = 3

every_task = pytest.mark.parametrize("text", TABLE.values(), ids=TABLE)
"""Decorates a test that a task of every family passes."""


@cache
def task_of(text):
    """One task, made once for all tests."""
    assert meta_train.tasks
    return family_of(text).sample(torch.Generator().manual_seed(0))


def stacked(text, split="train"):
    """Task, parameters, context and a batch of three runs."""
    task, generator = task_of(text), torch.Generator().manual_seed(1)
    problem = problems(task, RUNS, generator)
    return task, *problem, task.batches(problem.context, RUNS, generator, split)


def run_of(stack, i):
    """One run of a stack, as dict or tuple of tensors."""
    if isinstance(stack, tuple):
        return tuple(tensor[i] for tensor in stack)
    return {name: tensor[i] for name, tensor in stack.items()}
