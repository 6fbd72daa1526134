"""What can go wrong in the hands of users: by what the message begins with, a way to get there."""

from dataclasses import replace
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import nn

import ngopt
from meta_train.config import Config
from meta_train.data.folder import data_file
from meta_train.distributed import World
from meta_train.rules import newest
from meta_train.tasks.family import family_of
from meta_train.trainer import MetaTrainer
from ngopt.backends import dispatch
from ngopt.backends.kernel import CompileError
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules import Adam, MatrixGNN
from ngopt.rules.library import FORMAT, fingerprint
from tests.rules.rule_inputs import randomize

X = torch.randn(3, 4)
CONFIG = Config(steps=1, stacks=1, problems=1, device="cpu")
ALONE = World(0, 1, torch.device("cpu"), grouped=False)


def net(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def stepped(optimizer):
    """The state of an optimizer after a step."""
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def optimizer_with(rule, layers=3):
    return NeuralGraphOptimizer(net()[:layers].parameters(), rule=rule)


def step_before_forward(folder):
    stepped(NeuralGraphOptimizer(net(), rule=Adam()))


def not_followed(folder):
    model = net()
    optimizer = NeuralGraphOptimizer(model, rule=Adam())
    with patch("ngopt.graph.recorder.TraceRecorder.derive", side_effect=RecursionError("too deep")):
        model(X)
    stepped(optimizer)  # without another warning


def no_compiler(folder):
    with dispatch.without_loops():  # which remembers whether loops are compiled
        dispatch.disable(CompileError("there is no C compiler (cc, gcc or $CC)"))


def another_theta(folder):
    state = stepped(optimizer_with(MatrixGNN()))
    optimizer_with(randomize(MatrixGNN())).load_state_dict(state)


def twice(folder):
    weight = net()[0].weight
    NeuralGraphOptimizer([weight, weight])


def damaged_rule(folder):
    file = folder / "rule.safetensors"
    ngopt.save_rule(MatrixGNN(), file)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    ngopt.load_rule(file)


def unknown_class(folder):
    file = folder / "rule.safetensors"
    metadata = {"format": FORMAT, "rule": "Mine", "sha256": fingerprint({})}
    save_file({}, file, metadata)
    ngopt.load_rule(file)


def sparse(folder):
    layer = nn.Embedding(4, 2, sparse=True)
    optimizer = NeuralGraphOptimizer(layer)
    layer(torch.tensor([1])).sum().backward()
    optimizer.step()


def captured(folder):
    layer = nn.Linear(2, 2)
    optimizer = NeuralGraphOptimizer(layer)
    layer(torch.ones(2)).sum().backward()
    with patch("ngopt.optim.optimizer.capturing", lambda device: True):
        optimizer.step()


def not_finite(folder):
    model = net()
    with torch.no_grad():
        model[2].bias.fill_(torch.inf)
    ngopt.trace(model, X, verify=True)


def unknown_operation(folder):
    """Of which the summary of a graph tells."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 4))

        def forward(self, x):
            return torch.ops.docs.unknown(x, self.weight)

    summary = ngopt.trace(Model(), X).summary()
    return summary[summary.index("ngopt has no handler") :]


@torch.library.custom_op("docs::unknown", mutates_args=())
def unknown(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """An operation that nobody has taught ngopt."""
    return x @ weight.T


def other_options(folder):
    state = MetaTrainer(CONFIG, ALONE).state_dict()
    MetaTrainer(replace(CONFIG, problems=2), ALONE).load_state_dict(state)


MISHAPS = {
    "a step comes before": step_before_forward,
    "the forward pass of the model could": not_followed,
    "steps are slower": no_compiler,
    "the optimizer state was saved": another_theta,
    "there is nothing to optimize": lambda folder: NeuralGraphOptimizer(nn.ReLU()),
    "…= is an option of other": lambda folder: NeuralGraphOptimizer(net(), betas=(0.9, 0.95)),
    "a parameter of shape … is given twice": twice,
    "none of the parameters": lambda folder: NeuralGraphOptimizer(net().parameters(), model=net()),
    "graph= describes": lambda folder: NeuralGraphOptimizer(
        net(9).parameters(), graph=ngopt.trace(net(), X)
    ),
    "the graph describes": lambda folder: NeuralGraphOptimizer(net(9), graph=ngopt.trace(net(), X)),
    "there is no rule": lambda folder: ngopt.load_rule("best"),
    "the file `…` is damaged": damaged_rule,
    "the file `…` holds a": unknown_class,
    "anneal=": lambda folder: NeuralGraphOptimizer(net(), anneal="always"),
    "the order of a set": lambda folder: NeuralGraphOptimizer(set(net().parameters())),
    "the gradient of": sparse,
    "a step cannot be captured": captured,
    "a parameter of shape … is complex": lambda folder: NeuralGraphOptimizer(
        [nn.Parameter(torch.ones(2, dtype=torch.complex64))]
    ),
    "cannot load the state of … parameters": lambda folder: optimizer_with(
        Adam(), layers=1
    ).load_state_dict(stepped(optimizer_with(Adam()))),
    "cannot load the state of the rule": lambda folder: optimizer_with("default").load_state_dict(
        stepped(optimizer_with(Adam()))
    ),
    "cannot use the state of `": lambda folder: optimizer_with("default").load_state_dict(
        stepped(torch.optim.Adam(net().parameters()))
    ),
    "cannot trace …": lambda folder: ngopt.trace(torch.relu, X),
    "cannot trace the model": lambda folder: ngopt.trace(nn.LazyLinear(3), X),
    "cannot verify the graph": not_finite,
    "axes= names": lambda folder: ngopt.trace(net(), X, axes={"weight": "out in"}),
    "ngopt has no handler": unknown_operation,
    "there is no file": lambda folder: data_file(folder, "cifar-10-batches-py", "its authors"),
    "the run in this folder": other_options,
    "there is no family": lambda folder: family_of("resnet"),
    "there is no checkpoint": newest,
    "… stacks": lambda folder: MetaTrainer(CONFIG, World(0, 2, torch.device("cpu"), grouped=False)),
}
