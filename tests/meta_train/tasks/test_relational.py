import dataclasses

import pytest
import torch
from torch.nn.functional import cross_entropy

import ngopt
from meta_train.errors import MetaTrainError
from meta_train.tasks.family import family_of
from meta_train.tasks.relational import MaskedConv2d, MaskedLinear, Relational, block_mask
from meta_train.tasks.task import problems
from meta_train.tasks.ws_flex import connected, measure
from ngopt import NeuralGraphOptimizer, rules

SMALL = Relational(width=(16,), depth=(2,), nodes=(8,), degree=(3.0,), batch=(8,), graph=(0,))
KINDS = ["mlp", "convnet"]


def task_of(kind, **changes):
    family = dataclasses.replace(SMALL, kind=(kind,), **changes)
    return family.sample(torch.Generator().manual_seed(0))


def masks(task):
    return {
        f"{name}.weight": layer.mask.expand_as(layer.weight).bool()
        for name, layer in task.module.named_modules()
        if isinstance(layer, (MaskedLinear, MaskedConv2d))
    }


def test_the_mask_holds_the_graph_in_blocks_with_self_loops():
    graph = connected(8, 3.0, 0.5, 0)
    mask = block_mask(graph, 20)
    owner = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7])
    for i in range(20):
        for j in range(20):
            a, b = owner[i], owner[j]
            assert mask[i, j] == float(a == b or graph[a, b])


def test_fewer_neurons_than_nodes_are_refused():
    with pytest.raises(MetaTrainError, match="8 nodes cannot share 7 neurons"):
        block_mask(connected(8, 3.0, 0.5, 0), 7)


def test_initial_weights_follow_the_real_number_of_inputs():
    mask = torch.zeros(200, 400)
    mask[:100, :100] = 1
    mask[100:, :] = 1
    for layer in (MaskedLinear(mask), MaskedConv2d(mask)):
        taps = layer.weight[0, 0].numel()
        few, many = layer.weight[:100, :100], layer.weight[100:]
        # uniform in +-1 / sqrt(fan_in), as torch's own layers
        assert few.std().item() == pytest.approx((3 * 100 * taps) ** -0.5, rel=0.02)
        assert many.std().item() == pytest.approx((3 * 400 * taps) ** -0.5, rel=0.02)
        assert few.abs().max().item() <= (100 * taps) ** -0.5 * 1.0001
        assert not layer.weight[:100, 100:].any()
        assert (400 * taps) ** -0.5 < layer.bias[:100].abs().max().item() <= (100 * taps) ** -0.5


@pytest.mark.parametrize("kind", KINDS)
def test_masked_entries_have_no_gradient_and_no_effect(kind):
    task, generator = task_of(kind), torch.Generator().manual_seed(0)
    start = problems(task, 1, generator)
    batch = tuple(t[0] for t in task.batches(start.context, 1, generator))
    parameters = {name: p[0].requires_grad_() for name, p in start.parameters.items()}
    loss = task.loss(parameters, {}, batch)
    gradients = dict(zip(parameters, torch.autograd.grad(loss, parameters.values()), strict=True))
    dead = {name: ~mask for name, mask in masks(task).items()}
    assert len(dead) == 2
    for name, where in dead.items():
        assert where.any()
        assert not gradients[name][where].any()
        assert gradients[name][~where].any()
    moved = {n: p + dead[n] if n in dead else p for n, p in parameters.items()}
    assert torch.equal(task.loss(moved, {}, batch), loss)


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_verifies_and_tells_the_neurons_of_blocks_apart(kind):
    task = task_of(kind)
    graph = ngopt.trace(task.module, task.data.splits["train"][0][:4], verify=True)
    assert graph.verified
    assert graph.layouts == task.graph.layouts
    assert not graph.unknown
    assert set(graph.layouts) == {name for name, _ in task.module.named_parameters()}
    assert all(space.pinned for space in graph.spaces.values())  # each has its place in the mask


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", [rules.NGGNN, rules.NFN, rules.Celo2])
def test_other_rules_run_and_move_the_network_alone(kind, rule):
    task, generator = task_of(kind), torch.Generator().manual_seed(0)
    optimizer = NeuralGraphOptimizer(
        task.module.named_parameters(), rule=rule(seed=0), graph=task.graph
    )
    images, labels = (t[0] for t in task.batches({}, 1, generator))
    before = task.module(images)
    cross_entropy(before, labels).backward()
    optimizer.step()
    after = task.module(images)
    assert after.isfinite().all()
    assert (after != before).any()
    with torch.no_grad():
        for name, live in masks(task).items():
            task.module.get_parameter(name).mul_(live)
    assert torch.equal(task.module(images), after)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_default_rule_leaves_masked_weights_at_zero(kind, weight_decay):
    task, generator = task_of(kind), torch.Generator().manual_seed(0)
    module, graph = task.module, task.graph
    corrected = rules.MatrixGNN(seed=0)
    with torch.no_grad():  # a rule that has learned something
        for theta in corrected.parameters():
            theta += 0.3 * torch.randn(theta.shape, generator=generator)
    optimizer = NeuralGraphOptimizer(
        module.named_parameters(), rule=corrected, graph=graph, weight_decay=weight_decay
    )
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    for _ in range(3):
        images, labels = (t[0] for t in task.batches({}, 1, generator))
        optimizer.zero_grad()
        cross_entropy(module(images), labels).backward()
        optimizer.step()
    after = dict(module.named_parameters())
    for name, live in masks(task).items():
        assert not after[name][~live].any()
        assert (after[name] != before[name])[live].float().mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_runs_can_be_stacked(kind):
    task, generator = task_of(kind), torch.Generator().manual_seed(0)
    start = problems(task, 3, generator)
    batch = task.batches(start.context, 3, generator)
    together = torch.vmap(lambda p, b: task.loss(p, {}, b))(start.parameters, batch)
    for run in range(3):
        alone = {name: p[run] for name, p in start.parameters.items()}
        loss = task.loss(alone, {}, tuple(t[run] for t in batch))
        torch.testing.assert_close(together[run], loss)


def test_a_network_of_given_measures():
    task = task_of("mlp", width=(16,), nodes=(16,), clustering=(0.5,), path_length=(1.8,))
    mask = next(iter(masks(task).values()))  # one neuron for each node
    found = measure((mask & ~torch.eye(16, dtype=torch.bool)).numpy())
    assert found == pytest.approx((0.5, 1.8), abs=0.05)


def test_other_seeds_wire_other_networks_and_the_same_seed_the_same():
    first, again, other = (next(iter(masks(task_of("mlp", graph=(g,), rewiring=(1.0,))).values()))
                           for g in (0, 0, 1))  # fmt: skip
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_it_is_named_on_the_command_line():
    family = family_of(
        "relational:kind=mlp,width=16,nodes=8,degree=2.5,rewiring=0.1,depth=1,clustering=0.3"
    )
    name = family.sample(torch.Generator().manual_seed(0)).name
    assert name.startswith("relational(kind=mlp, data=digits, size=8, width=16, depth=1, nodes=8")


def test_choices_that_make_no_sense_are_refused():
    with pytest.raises(MetaTrainError, match="kind of relational network"):
        task_of("rnn")
    with pytest.raises(MetaTrainError, match="the nearest one has"):
        task_of("mlp", clustering=(0.0,), path_length=(1.0,))
