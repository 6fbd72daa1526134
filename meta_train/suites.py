"""Suites of tasks to evaluate rules on: near to those of meta-training, or far from them."""

from dataclasses import dataclass

import torch

from meta_train.spec import look_up
from meta_train.tasks.family import family_of
from meta_train.tasks.task import Task


@dataclass(frozen=True)
class SuiteTask:
    """A task of a suite.

    Args:
        family: the text that names it, with one choice of each option.
        steps: number of inner steps.
        problems: number of runs with each setting.
    """

    family: str
    steps: int = 1000
    problems: int = 3

    def task(self) -> Task:
        """Build the task."""
        # With one choice of each option, nothing is left to chance.
        return family_of(self.family).sample(torch.Generator().manual_seed(0))


SUITES: dict[str, tuple[SuiteTask, ...]] = {
    "near": (
        SuiteTask("mlp:data=cifar10,size=8,width=64,depth=2"),
        SuiteTask("mlp:data=cifar10,size=16,width=128,depth=2,activation=gelu"),
        SuiteTask("mlp:data=fashion_mnist,size=28,width=128,depth=1,batch=128"),
        SuiteTask("convnet:data=cifar10,size=16,width=16,depth=3,batch=32"),
        SuiteTask("convnet:data=mnist,size=16,width=8,depth=4,activation=tanh,batch=32"),
        SuiteTask("convnet:data=fashion_mnist,size=28,width=16,depth=3,batch=128"),
        SuiteTask("convnet:data=cifar10,size=32,width=32,depth=3,batch=128"),
    ),
    "kin": (
        SuiteTask("residual:data=cifar10,size=16,width=8,depth=2,norm=batch,batch=32", 500),
        SuiteTask("residual:data=fashion_mnist,size=16,width=4,depth=2,norm=group,batch=32", 500),
        SuiteTask("rnn_lm:data=tinyshakespeare,length=32,width=32,depth=1,cell=gru"),
        SuiteTask(
            "transformer_lm:data=tinyshakespeare,length=32,width=64,depth=2,heads=4,batch=8", 500
        ),
        SuiteTask("autoencoder:data=fashion_mnist,size=28,width=64,depth=1,code=16"),
    ),
    "far": (
        SuiteTask("vit:data=cifar10,size=16,patch=4,width=32,depth=2,heads=4,batch=32", 500),
        SuiteTask("mixer:data=cifar10,size=16,patch=4,width=32,depth=2,batch=32", 500),
        SuiteTask("rnn_lm:data=tinyshakespeare,length=32,width=32,depth=1,cell=lstm"),
        SuiteTask("vae:data=mnist,size=14,width=64,depth=2,code=8"),
        SuiteTask("siren:data=cifar10,size=32,width=64,depth=3,batch=256"),
        SuiteTask("gnn:data=mnist,size=14,nodes=24,width=32,depth=3"),
        SuiteTask("mlp:data=fashion_mnist,size=16,width=32,depth=16"),
        SuiteTask("unet:data=fashion_mnist,size=12,width=8,depth=1,batch=16", 500),
        SuiteTask(
            "moe:data=tinyshakespeare,length=32,width=32,depth=2,heads=4,experts=4,top=2,"
            "hidden=64,batch=8",
            500,
        ),
        SuiteTask("flow:data=mnist,size=8,width=64,hidden=2,depth=4"),
        SuiteTask("kan:data=fashion_mnist,size=14,width=16,depth=1,bumps=8"),
    ),
    "large": (
        SuiteTask("mlp:data=fashion_mnist,size=28,width=256,depth=2", 10_000, 1),
        SuiteTask("convnet:data=cifar10,size=8,width=48,depth=4,batch=16", 10_000, 1),
        SuiteTask(
            "transformer_lm:data=tinyshakespeare,length=32,width=96,depth=2,heads=4,batch=4",
            10_000,
            1,
        ),
    ),
    "validation": (
        SuiteTask("mlp:data=fashion_mnist,size=14,width=32,depth=2", 500),
        SuiteTask("mlp:data=mnist,size=8,width=32,depth=3,norm=layer", 500),
        SuiteTask("convnet:data=digits,size=8,width=16,depth=2", 500),
        SuiteTask("quadratic:size=8,condition=1e3,rotated=True,noise=0.1", 500),
        SuiteTask("residual:data=fashion_mnist,size=8,width=8,depth=1,norm=batch,batch=32", 500),
        SuiteTask("transformer_lm:width=32,depth=2,length=16,heads=4,batch=8", 500),
        SuiteTask("rnn_lm:cell=gru,width=32,length=16,batch=8", 500),
        SuiteTask(
            "autoencoder:data=mnist,size=8,width=64,depth=2,code=4,activation=gelu,batch=32", 500
        ),
        SuiteTask("mlp:data=fashion_mnist,size=8,width=24,depth=8,activation=tanh,batch=64", 500),
        SuiteTask("mlp:data=fashion_mnist,size=14,width=128,depth=2,batch=64", 5000, 1),
    ),
    "transfer": tuple(
        SuiteTask(f"convnet:data={data},size=8,width={width},depth={depth},batch=128", 300)
        for width, depth in (
            *((width, 3) for width in (8, 16, 32, 64)),
            *((16, depth) for depth in (1, 2, 4, 5)),
            (128, 3),  # which takes most of the time
        )
        for data in ("fashion_mnist", "cifar10")
    ),
}
"""The suites by name.

`near`: perceptrons and convnets, the families that rules are meta-trained on, with data, sizes and
numbers of steps of their own; its last two are the nets of the neural-graphs paper.
`kin`: residual nets, GRU and transformer language models and autoencoders, kinds that rules are
meta-trained on as well, with other data and in other sizes.
`far`: kinds that are never meta-trained.
`large`: ten times the weights and ten times the steps of anything in meta-training.
`validation`: small and fast, the last one long, to choose rules by; none of its tasks is in another
suite.
`transfer`: the paper's convnet on the data it is meta-trained and tested on, over width and depth.

Nothing of `near`, `kin`, `far`, `large` and `transfer` may be used to meta-train, choose or tune a
rule. In results from before `far` was cut in two, `far` is what is now `kin` and the first seven
tasks of `far`.
"""


def suite(name: str) -> tuple[SuiteTask, ...]:
    """The tasks of a suite.

    Raises:
        MetaTrainError: if there is none of that name.
    """
    return look_up(SUITES, name, "suite")
