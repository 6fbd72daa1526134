"""Random sequences of what a user may do with an optimizer, and what has to hold after each.

Beside the optimizer there may be a twin, made by a copy or from a checkpoint, to which the same is
done: the two must stay equal to the last bit.
"""

import copy
import io
import pickle

import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from torch import nn

from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.contract import assert_same, copy_of, flat_state
from tests.rules.rule_inputs import randomize


class Odd(nn.Module):
    """Parameters of unusual shapes, one of them used twice."""

    def __init__(self):
        super().__init__()
        self.scalar = nn.Parameter(torch.tensor(0.5))
        self.empty = nn.Parameter(torch.zeros(0, 3))
        self.five = nn.Parameter(torch.full((2, 1, 2, 1, 2), 0.1))
        self.tied = nn.Parameter(torch.linspace(-1, 1, 6).view(3, 2))

    def forward(self, x):
        hidden = (x @ self.tied) * self.scalar * self.five.sum()
        return hidden @ self.tied.T + self.empty.sum()


def perceptron():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def convnet():
    layers = nn.Unflatten(1, (1, 1, 3)), nn.Conv2d(1, 3, (1, 2)), nn.GroupNorm(1, 3), nn.ReLU()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 2))


def normed():
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 1))


MODELS = [perceptron, convnet, normed, Odd]
RULES = {
    "Adam": Adam,
    "MatrixGNN": lambda: randomize(MatrixGNN(width=3, hidden=2, context_every=2)),
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
FAULTS = ["none", "none", "nan", "inf", "zero", "huge", "missing"]

options = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([0.0, 1e-28, 1e-3, torch.tensor(0.01), torch.tensor([0.1])]),
        "weight_decay": st.sampled_from([0.0, 0.5]),
        "maximize": st.booleans(),
    }
)
places = st.integers(0, 10)


def copied(pair):
    return copy.deepcopy(pair)


def pickled(pair):
    return pickle.loads(pickle.dumps(pair))


def resumed(pair):
    """A new model and a new optimizer of nameless tensors, from a file."""
    models, optimizer = pair
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    others = copy.deepcopy(models)
    known = dict(zip(models.parameters(), others.parameters(), strict=True))
    groups = [{"params": [known[p] for p in group["params"]]} for group in optimizer.param_groups]
    other = NeuralGraphOptimizer(groups, rule=copy.deepcopy(optimizer.rule))
    other.load_state_dict(torch.load(file, weights_only=True))
    return others, other


class Machine(RuleBasedStateMachine):
    """A user."""

    @initialize(
        make=st.sampled_from(MODELS),
        kind=st.sampled_from(sorted(RULES)),
        dtype=st.sampled_from(DTYPES),
        form=st.sampled_from(["params", "named", "model"]),
        given=options,
    )
    def begin(self, make, kind, dtype, form, given):
        torch.manual_seed(0)
        self.dtype, self.form, self.skipped, self.seed = dtype, form, 0, 0
        self.models = nn.ModuleList([make().to(dtype)])
        groups = [self.group(self.models[0], given)]
        self.optimizer = NeuralGraphOptimizer(groups, rule=RULES[kind]())
        self.twin = self.saved = None
        self.backward("none", 0)

    def group(self, model, given):
        if self.form == "model":
            return {"model": model, **given}
        named = self.form == "named"
        return {"params": list(model.named_parameters() if named else model.parameters()), **given}

    @property
    def pairs(self):
        return [(self.models, self.optimizer)] + ([self.twin] if self.twin else [])

    @rule(fault=st.sampled_from(FAULTS), place=places)
    def backward(self, fault, place):
        self.seed += 1
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(self.seed)).to(self.dtype)
        for models, _ in self.pairs:
            if any(p.requires_grad for p in models.parameters()):
                sum(model(x).square().mean() for model in models).backward()
            self.spoil(models, fault, place)

    def spoil(self, models, fault, place):
        having = [p for p in models.parameters() if p.grad is not None and p.numel()]
        if not having or fault == "none":
            return
        parameter = having[place % len(having)]
        if fault == "missing":
            parameter.grad = None
        elif fault in ("zero", "huge"):
            parameter.grad.mul_({"zero": 0.0, "huge": 1e4}[fault])
        else:
            parameter.grad.view(-1)[-1] = float(fault)

    @rule(to_none=st.booleans())
    def zero_grad(self, to_none):
        for _, optimizer in self.pairs:
            optimizer.zero_grad(set_to_none=to_none)

    @rule(place=places, thaw=st.booleans(), drop=st.booleans())
    def freeze(self, place, thaw, drop):
        for models, _ in self.pairs:
            parameters = list(models.parameters())
            chosen = parameters[place % len(parameters)].requires_grad_(thaw)
            chosen.grad = None if drop else chosen.grad

    @rule(given=options, place=places)
    def set_options(self, given, place):
        for _, optimizer in self.pairs:
            optimizer.param_groups[place % len(optimizer.param_groups)].update(given)

    @precondition(lambda self: len(self.models) < 3)
    @rule(make=st.sampled_from(MODELS), given=options)
    def add_param_group(self, make, given):
        model = make().to(self.dtype)
        for models, optimizer in self.pairs:
            models.append(copy.deepcopy(model))
            optimizer.add_param_group(self.group(models[-1], given))
            models[-1](torch.ones(2, 3, dtype=self.dtype))  # is traced

    @rule(how=st.sampled_from([copied, pickled, resumed]))
    def fork(self, how):
        self.twin = how((self.models, self.optimizer))
        for mine, its in zip(self.models.parameters(), self.twin[0].parameters(), strict=True):
            its.grad = None if mine.grad is None else mine.grad.clone()

    @rule()
    def save(self):
        self.saved = copy.deepcopy((self.models.state_dict(), self.optimizer.state_dict()))

    @precondition(
        lambda self: self.saved and len(self.saved[1]["param_groups"]) == len(self.models)
    )
    @rule()
    def load(self):
        for models, optimizer in self.pairs:
            models.load_state_dict(self.saved[0])
            optimizer.load_state_dict(self.saved[1])
        self.skipped = self.saved[1]["ngopt"]["skipped_steps"]

    @precondition(
        lambda self: self.saved and len(self.saved[1]["param_groups"]) != len(self.models)
    )
    @rule()
    def load_what_does_not_fit(self):
        before = copy.deepcopy(flat_state(self.optimizer))
        try:
            self.optimizer.load_state_dict(self.saved[1])
        except ValueError:
            assert_same(before, flat_state(self.optimizer))
        else:
            raise AssertionError("a state of fewer groups was loaded")

    @rule(closure=st.booleans(), count=st.sampled_from([1, 1, 11]))
    def step(self, closure, count):
        for _ in range(count):
            self.one_step(closure)

    def one_step(self, closure):
        parameters = dict(self.models.named_parameters())
        due = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
        before, state = copy_of(self.models), copy.deepcopy(flat_state(self.optimizer))
        forms = {n: (p.shape, p.dtype, p.stride(), p.requires_grad) for n, p in parameters.items()}
        for _, optimizer in self.pairs:
            assert optimizer.step((lambda: 1.5) if closure else None) == (1.5 if closure else None)
        after = copy_of(self.models)
        sound = all(gradient.isfinite().all() for gradient in due.values())
        self.skipped += not sound
        assert self.optimizer.skipped_steps == self.skipped
        if not sound:
            assert_same(state, flat_state(self.optimizer))
        still = {name for name in after if name not in due or not sound}
        assert_same({n: before[n] for n in still}, {n: after[n] for n in still})
        grads = {name: parameters[name].grad for name in due}
        torch.testing.assert_close(due, grads, rtol=0, atol=0, equal_nan=True)
        for name, p in self.models.named_parameters():
            assert p.isfinite().all(), name
            assert forms[name] == (p.shape, p.dtype, p.stride(), p.requires_grad)
            assert p.is_leaf
        if self.twin:
            assert_same(after, copy_of(self.twin[0]))
            assert_same(flat_state(self.optimizer), flat_state(self.twin[1]))
