"""What every family of tasks keeps to."""

import pytest
import torch
from torch.func import grad, grad_and_value

import ngopt
from meta_train.spec import parse
from meta_train.tasks.family import FAMILIES, family_of
from meta_train.tasks.task import SPLITS
from ngopt.optim.update import Options, init_state, update
from ngopt.rules.adam import Adam
from tests.meta_train.tasks.table import RUNS, TABLE, every_task, run_of, stacked, task_of


def test_the_table_is_complete():
    own = {
        name
        for name, family in FAMILIES.items()
        if family.__module__.startswith("meta_train.tasks.")
        and not family.__module__.endswith(".learn2learn_tasks")  # needs another package
    }
    assert own == {parse(text).name for text in TABLE.values()}


@pytest.mark.parametrize("name", sorted({parse(text).name for text in TABLE.values()}))
def test_defaults_give_various_tasks(name):
    generator = torch.Generator().manual_seed(0)
    names = {family_of(name).sample(generator).name for _ in range(3)}
    assert len(names) > 1
    assert all(n.startswith(f"{name}(") for n in names)


@every_task
def test_the_label_says_the_choices(text):
    name = task_of(text).name
    assert name.startswith(parse(text).name + "(")
    for key, value in parse(text).options.items():
        assert f"{key}={value}" in name[:-1].split("(", 1)[1].split(", ")


@every_task
def test_all_is_drawn_from_the_generator(text):
    torch.manual_seed(0)
    first = [*stacked(text)[1:]]
    torch.manual_seed(1)
    second = [*stacked(text)[1:]]
    for a, b in zip(first, second, strict=True):
        a, b = (tuple(x.values()) if isinstance(x, dict) else x for x in (a, b))
        assert all(map(torch.equal, a, b))


@every_task
def test_torch_s_own_generator_is_left_alone(text):
    before = torch.get_rng_state()
    family_of(text).sample(torch.Generator().manual_seed(0))
    stacked(text)
    assert torch.equal(torch.get_rng_state(), before)


@every_task
def test_runs_differ(text):
    _, parameters, context, batch = stacked(text)
    for stack in (*context.values(), *(b for b in batch if b.numel() and b.any())):
        assert not torch.equal(stack[0], stack[1])
    assert any(not torch.equal(stack[0], stack[1]) for stack in parameters.values())


@every_task
def test_every_tensor_is_stacked(text):
    task, parameters, context, _ = stacked(text)
    for split in SPLITS:
        batch = task.batches(context, RUNS, torch.Generator(), split)
        assert batch
        assert all(len(tensor) == RUNS for tensor in batch)
    assert all(len(tensor) == RUNS for tensor in (*parameters.values(), *context.values()))


@every_task
def test_stacked_gradients_are_those_of_each_run(text):
    task, parameters, context, batch = stacked(text)
    gradients, losses = torch.vmap(grad_and_value(task.loss))(parameters, context, batch)
    assert losses.shape == (RUNS,)
    assert losses.isfinite().all()
    assert (losses > 0).all()
    for i in range(RUNS):
        run = run_of(parameters, i), run_of(context, i), run_of(batch, i)
        expected, loss = grad_and_value(task.loss)(*run)
        torch.testing.assert_close(losses[i], loss, rtol=1e-5, atol=1e-6)
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name][i], gradient, rtol=1e-5, atol=1e-6)


@every_task
def test_every_parameter_has_a_gradient(text):
    task, parameters, context, batch = stacked(text)
    gradients = torch.vmap(grad(task.loss))(parameters, context, batch)
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())


@every_task
def test_second_derivatives_are_finite(text):
    task, parameters, context, batch = stacked(text)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in parameters.items()}
    gradients = torch.vmap(grad(task.loss))(leaves, context, batch)
    square = sum(gradient.square().sum() for gradient in gradients.values())
    # Some parameters, such as the last bias, may not matter to any gradient in a linear model.
    second = torch.autograd.grad(square, list(leaves.values()), allow_unused=True)
    assert any(tensor is not None and tensor.any() for tensor in second)
    assert all(tensor is None or tensor.isfinite().all() for tensor in second)


@every_task
def test_the_graph_describes_the_parameters(text):
    task, parameters, _, _ = stacked(text)
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in parameters.items()}
    assert {name: layout.shape for name, layout in task.graph.parameters.items()} == shapes
    assert not task.graph.unknown


@every_task
def test_the_graph_is_verified(text):
    task = task_of(text)
    if not hasattr(task, "module"):
        assert task.graph.verified
        return
    *inputs, _ = (tensor[0, :4] for tensor in stacked(text)[3])
    verified = ngopt.trace(task.module, *inputs, verify=True)
    assert verified.verified
    assert verified.hidden == task.graph.hidden


@every_task
def test_adam_lowers_the_loss(text):
    task, parameters, context, batch = stacked(text)
    rule, options = Adam(), dict.fromkeys(parameters, Options(lr=0.05))
    state = init_state(parameters, task.graph, rule)
    look = torch.vmap(grad_and_value(task.loss))
    generator = torch.Generator().manual_seed(2)
    _, before = look(parameters, context, batch)
    for _ in range(20):
        drawn = task.batches(context, RUNS, generator)
        gradients, _ = look(parameters, context, drawn)
        parameters, state, _ = update(parameters, gradients, state, task.graph, rule, options)
    _, after = look(parameters, context, batch)
    assert after.mean() < 0.95 * before.mean()


@every_task
def test_metrics_are_figures(text):
    task, parameters, context, batch = stacked(text)
    for figure in torch.vmap(task.metrics)(parameters, context, batch).values():
        assert figure.shape == (RUNS,)
        assert figure.isfinite().all()


@every_task
def test_moving_to_the_same_device_changes_nothing(text):
    task, parameters, context, batch = stacked(text)
    there = task.to(torch.device("cpu"))
    assert there.name == task.name
    run = run_of(parameters, 0), run_of(context, 0), run_of(batch, 0)
    assert torch.equal(there.loss(*run), task.loss(*run))


@every_task
def test_everything_moves_to_another_device(text):
    task, there = task_of(text), task_of(text).to(torch.device("meta"))
    problem = there.problem(torch.Generator())
    context = {name: tensor.unsqueeze(0) for name, tensor in problem.context.items()}
    for split in SPLITS:
        batch = there.batches(context, 1, torch.Generator(), split)
        assert there.loss(*problem, run_of(batch, 0)).is_meta
    assert task.device == torch.device("cpu")
    assert not task.loss(*task.problem(torch.Generator()), run_of(stacked(text)[3], 0)).is_meta
