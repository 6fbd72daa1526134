import torch

from meta_train.tasks.task import problems
from meta_train.unroll.runs import chosen, mapped, repeated, start
from ngopt.rules import Adam
from tests.meta_train.small_tasks import Descent, Network, Quadratic, equal, leaves, of_runs, seeded


def begun(task, runs=3, copies=1, seed=0):
    return start(task, Descent(), runs, seeded(seed), copies)


def test_runs_start_at_the_problems_of_the_task_with_a_fresh_state():
    task, rule = Network(), Adam()
    runs = start(task, rule, 3, seeded(), 1)
    expected = problems(task, 3, seeded())
    assert len(runs) == 3
    assert equal(runs.parameters, expected.parameters)
    assert runs.context == expected.context == {}
    one = rule.init_state(of_runs(runs.parameters, 1), task.graph)
    assert equal(of_runs(runs.state, 1), one)
    assert not runs.diverged.any()


def test_runs_of_a_stack_start_at_different_problems():
    runs = begun(Network())
    weight = runs.parameters["0.weight"]
    assert not torch.equal(weight[0], weight[1])


def test_copies_start_alike():
    runs = begun(Quadratic(spread=1.0), runs=3, copies=2)
    assert len(runs) == 6
    for tensors in (runs.parameters, runs.context, runs.state):
        assert equal(of_runs(tensors, slice(3)), of_runs(tensors, slice(3, 6)))
    targets = runs.context["target"]
    assert not torch.equal(targets[0], targets[1])


def test_copies_see_the_same_batches():
    (batch,) = begun(Quadratic(noise=1.0), runs=3, copies=2).draw()
    assert batch.shape == (6, 2, 2)
    assert torch.equal(batch[:3], batch[3:])
    assert not torch.equal(batch[0], batch[1])


def test_the_number_of_copies_does_not_change_problems_and_batches():
    alone, pairs = (begun(Quadratic(spread=1.0, noise=1.0), 3, copies) for copies in (1, 2))
    assert equal(alone.context, of_runs(pairs.context, slice(3)))
    assert torch.equal(alone.draw()[0], pairs.draw()[0][:3])


def test_batches_of_another_split_are_asked_of_the_task():
    task = Quadratic()
    begun(task).draw("held_out")
    assert [split for split, _ in task.drawn] == ["held_out"]


def test_each_run_has_tensors_of_its_own():
    runs = begun(Network(), copies=2)
    runs.state["0.weight"]["velocity"][0] += 1
    runs.parameters["0.weight"][0] += 1
    assert not runs.state["0.weight"]["velocity"][1:].any()
    assert not torch.equal(runs.parameters["0.weight"][0], runs.parameters["0.weight"][3])


def test_tensors_go_out_and_in_again():
    runs, others = begun(Network()), begun(Network(), seed=1)
    moved = others.with_tensors(runs.tensors())
    assert equal(moved.tensors(), runs.tensors())
    assert moved.task is others.task
    assert moved.generator is others.generator


def test_detached_runs_remember_nothing():
    runs = begun(Network())
    shift = torch.ones((), requires_grad=True, dtype=torch.float64)
    tracked = runs.with_tensors(
        {"parameters": mapped(lambda tensor: tensor + shift, runs.parameters)}
    )
    assert any(tensor.requires_grad for tensor in leaves(tracked.tensors()))
    detached = tracked.detached()
    assert not any(tensor.requires_grad for tensor in leaves(detached.tensors()))
    assert equal(detached.tensors(), tracked.tensors())


def test_mapped_keeps_the_nesting_and_pairs_the_places():
    first = {"a": torch.tensor(1.0), "b": {"c": torch.tensor(2.0)}}
    second = {"b": {"c": torch.tensor(20.0)}, "a": torch.tensor(10.0)}
    sums = mapped(torch.add, first, second)
    assert sums == {"a": torch.tensor(11.0), "b": {"c": torch.tensor(22.0)}}


def test_repeated_repeats_the_stack_as_a_whole():
    stack = torch.arange(3)
    assert repeated(stack, 2).tolist() == [0, 1, 2, 0, 1, 2]
    assert repeated(stack, 1) is stack


def test_chosen_takes_whole_runs():
    which = torch.tensor([True, False])
    new, old = torch.ones(2, 3, 4), torch.zeros(2, 3, 4)
    assert torch.equal(chosen(which, new, old), torch.stack([new[0], old[1]]))
    assert chosen(which, new[:, 0, 0], old[:, 0, 0]).tolist() == [1, 0]
