import copy
import math
import sys

import pytest
import torch
from torch import nn

import ngopt
from ngopt import Monitor, NeuralGraphOptimizer
from ngopt.errors import OptionError
from ngopt.monitor import monitor
from ngopt.monitor.measures import angle
from ngopt.rules import MatrixGNN
from tests.contract import Small, backward, copy_of
from tests.monitor.monitored import events_of, ours, read, run, series, text
from tests.rules.rule_inputs import randomize


def test_losses_of_written_steps(tmp_path):
    model = Small()
    optimizer = ours(model)
    with Monitor(optimizer, tmp_path, every=3) as watcher:
        watcher.log(loss=7.0)  # of no step
        losses = run(model, optimizer, 7, watcher)
        watcher.log(accuracy=0.25)
    assert series(tmp_path, "1 training/loss") == {n: losses[n].item() for n in (0, 3, 6)}
    assert series(tmp_path, "1 training/accuracy") == {6: 0.25}
    assert set(series(tmp_path, "2 optimizer/skipped_steps").values()) == {0}


def test_numbers_of_each_tensor(tmp_path):
    model = Small()
    optimizer = ours(model, weight_decay=0.1)
    with Monitor(optimizer, tmp_path, every=1, per_tensor=True):
        run(model, optimizer, 2)
        before = copy_of(model)
        run(model, optimizer, 1, start=2)
    events = read(tmp_path)
    for name, param in model.named_parameters():
        sizes = {"weight": before[name], "gradient": param.grad, "update": param - before[name]}
        rms = {key: tensor.square().mean().sqrt().item() for key, tensor in sizes.items()}
        groups = {"weight": "6 weight RMS", "gradient": "5 gradient RMS", "update": "4 update RMS"}
        for key, group in groups.items():
            written = events.Scalars(f"{group}/{name}")[2].value
            assert written == pytest.approx(rms[key], rel=1e-5)
        relative = rms["update"] / rms["weight"] if rms["weight"] else math.inf
        written = events.Scalars(f"3 relative update/{name}")[2].value
        assert written == pytest.approx(relative, rel=1e-5)


def norm(tensors):
    return math.sqrt(sum(tensor.square().sum().item() for tensor in tensors))


def test_sums_over_all_tensors_and_nothing_of_single_ones(tmp_path):
    model = Small()
    rule = randomize(MatrixGNN(width=4))
    optimizer = NeuralGraphOptimizer(model, rule=rule)
    with Monitor(optimizer, tmp_path, every=1, angle_to_adam=True) as watcher:
        run(model, optimizer, 2, watcher)
        before = copy_of(model)
        losses = run(model, optimizer, 1, watcher, start=2)
        watcher.log(accuracy=0.5)
    events = read(tmp_path)
    last = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
    moves = [p.detach() - before[name] for name, p in model.named_parameters()]
    expected = {
        "1 training/loss": losses[0].item(),
        "2 optimizer/weight_norm": norm(before.values()),
        "2 optimizer/gradient_norm": norm(p.grad for p in model.parameters()),
        "2 optimizer/update_norm": norm(moves),
        "2 optimizer/relative_update": norm(moves) / norm(before.values()),
    }
    assert {tag: last[tag] for tag in expected} == pytest.approx(expected, rel=1e-4)
    assert abs(math.log(last["2 optimizer/rule_scale"])) <= rule.base_update.scale_bound
    assert 0 < last["2 optimizer/rule_correction"] < 0.9
    groups = [tag.split("/")[0] for tag in last]
    assert set(groups) == {"1 training", "2 optimizer"}
    assert len(groups) <= 12
    assert events.Tags()["histograms"] == ["weights"]
    assert events.Tags()["images"] == ["graph"]


def test_monitors_of_other_optimizers_write_runs_beside_it(tmp_path):
    nets = [Small(), Small(), Small()]
    optimizers = [
        ours(nets[0]),
        torch.optim.Adam(nets[1].parameters()),
        torch.optim.SGD(nets[2].parameters(), lr=0.1),
    ]
    for model, optimizer, name in zip(nets, optimizers, (None, None, "fast"), strict=True):
        with Monitor(optimizer, tmp_path, name=name) as watcher:
            run(model, optimizer, 1, watcher)
    tags = {path.name: set(events_of(path).Tags()["scalars"]) for path in tmp_path.iterdir()}
    assert tags.keys() == {"MatrixGNN", "Adam", "fast"}
    assert tags["Adam"] == tags["fast"] < tags["MatrixGNN"]


def test_what_the_rule_decides(tmp_path):
    model = Small()
    rule = randomize(MatrixGNN(width=4))
    optimizer = NeuralGraphOptimizer(model, rule=rule)
    with Monitor(optimizer, tmp_path, per_tensor=True):
        run(model, optimizer, 1)
    assert rule.on_diagnostics is None
    events = read(tmp_path)
    tags = events.Tags()
    for name in copy_of(model):
        (scale,) = events.Scalars(f"7 learned step size/{name}")
        (correction,) = events.Scalars(f"8 correction/{name}")
        assert abs(math.log(scale.value)) <= rule.base_update.scale_bound
        assert 0 < correction.value < 0.9
        assert f"correction/{name}" in tags["images"]
        assert f"weight/{name}" in tags["histograms"]
    assert sum(tag.startswith("neurons/") for tag in tags["images"]) == len(optimizer.graph.spaces)


@pytest.mark.parametrize("lr", [1e-2, torch.tensor([1e-2])])
def test_angle_to_adam(lr, tmp_path):
    model = Small()
    twin = copy.deepcopy(model)
    optimizer = ours(model)
    beside = torch.optim.Adam(twin.parameters(), lr=1e-2)
    optimizer.param_groups[0]["lr"] = lr
    with Monitor(optimizer, tmp_path, every=2, per_tensor=True, angle_to_adam=True):
        for seed in range(3):
            backward(model, seed)
            twin.load_state_dict(model.state_dict())
            for param, other in zip(model.parameters(), twin.parameters(), strict=True):
                other.grad = param.grad.clone()
            before = copy_of(model)
            optimizer.step()
            beside.step()
    mine, adams = (
        {name: p - before[name] for name, p in copy_of(net).items()} for net in (model, twin)
    )
    expected = angle(mine, adams).item()
    assert 1 < expected < 90
    events = read(tmp_path)
    whole = events.Scalars("2 optimizer/angle_to_adam")
    assert [event.step for event in whole] == [0, 2]
    assert whole[1].value == pytest.approx(expected, rel=1e-3)
    for name, step in mine.items():
        wanted = pytest.approx(angle(step, adams[name]).item(), rel=1e-2, abs=0.05)
        assert events.Scalars(f"9 angle to Adam/{name}")[1].value == wanted


@pytest.mark.parametrize("maximize", [False, True])
def test_adam_is_at_no_angle_to_itself(maximize, tmp_path):
    model = Small()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, maximize=maximize)
    with Monitor(optimizer, tmp_path, every=1, angle_to_adam=True):
        run(model, optimizer, 3)
    assert max(series(tmp_path, "2 optimizer/angle_to_adam").values()) < 0.05


def test_pictures_come_less_often(tmp_path):
    model = Small()
    optimizer = ours(model)
    with Monitor(optimizer, tmp_path, every=2, pictures=2, per_tensor=True):
        run(model, optimizer, 9)
    events = read(tmp_path)
    assert [event.step for event in events.Scalars("2 optimizer/lr")] == [0, 2, 4, 6, 8]
    assert [event.step for event in events.Histograms("weight/linear.weight")] == [0, 4, 8]
    assert [event.step for event in events.Images("correction/linear.weight")] == [0, 4, 8]


def test_the_graph_is_shown_once_it_is_traced(tmp_path):
    model = Small()
    optimizer = ours(model)
    with Monitor(optimizer, tmp_path, every=1, pictures=1):
        run(model, optimizer, 3)
    events = read(tmp_path)
    assert [event.step for event in events.Images("graph")] == [1]  # the first step is slow enough
    assert f"{len(optimizer.graph.hidden)} hidden" in text(tmp_path, "graph")


def test_the_graph_of_a_short_run_is_drawn_at_its_end(tmp_path):
    model = Small()
    optimizer = ours(model)
    with Monitor(optimizer, tmp_path):
        run(model, optimizer, 1)
    assert [event.step for event in read(tmp_path).Images("graph")] == [0]


def test_lone_tensors_have_no_graph_to_show(tmp_path):
    model = Small()
    optimizer = ours(model.parameters())
    with Monitor(optimizer, tmp_path):
        run(model, optimizer, 1)
    assert "graph" not in read(tmp_path).Tags()["images"]


def test_histograms_are_of_finite_weights(tmp_path):
    params = [torch.tensor([1.0, math.inf, 3.0]), torch.full((2,), math.nan), torch.zeros(0)]
    optimizer = torch.optim.SGD([nn.Parameter(tensor) for tensor in params], lr=0.1)
    for param in optimizer.param_groups[0]["params"]:
        param.grad = torch.zeros_like(param)
    with Monitor(optimizer, tmp_path, per_tensor=True):
        optimizer.step()
    events = read(tmp_path)
    assert events.Tags()["histograms"] == ["weight/tensor:0"]
    (event,) = events.Histograms("weight/tensor:0")
    assert (event.histogram_value.min, event.histogram_value.max) == (1, 3)


def test_histograms_look_at_a_sample_of_large_tensors(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "SAMPLE", 10)
    optimizer = torch.optim.SGD([nn.Parameter(torch.arange(100.0))], lr=0.1)
    optimizer.param_groups[0]["params"][0].grad = torch.zeros(100)
    with Monitor(optimizer, tmp_path, per_tensor=True):
        optimizer.step()
    (event,) = read(tmp_path).Histograms("weight/tensor:0")
    assert event.histogram_value.num == 10
    assert event.histogram_value.max == 90


def test_the_optimizer_is_described(tmp_path):
    optimizer = NeuralGraphOptimizer(Small(), 0.5, rule=MatrixGNN(width=3))
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))], "lr": 0.25})
    with Monitor(optimizer, tmp_path):
        pass
    described = text(tmp_path, "optimizer")
    assert "NeuralGraphOptimizer" in described
    assert '"width": 3' in described
    assert "group 1: 1 tensors, 3 entries; lr 0.25" in described


def test_every_group_has_its_learning_rate(tmp_path):
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.5, 0.25)]
    optimizer = torch.optim.SGD(groups)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with Monitor(optimizer, tmp_path, every=1):
        for _ in range(2):
            optimizer.step()
            scheduler.step()
    assert series(tmp_path, "2 optimizer/lr_0") == {0: 0.5, 1: 0.25}
    assert series(tmp_path, "2 optimizer/lr_1") == {0: 0.25, 1: 0.125}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precision(dtype, tmp_path):
    model = Small().to(dtype)
    optimizer = ours(model)
    with Monitor(optimizer, tmp_path, every=1, per_tensor=True, angle_to_adam=True) as watcher:
        losses = run(model, optimizer, 2, watcher)
    assert series(tmp_path, "1 training/loss")[1] == pytest.approx(losses[1].item())
    rms = model.linear.weight.grad.double().square().mean().sqrt().item()
    assert series(tmp_path, "5 gradient RMS/linear.weight")[1] == pytest.approx(rms, rel=1e-5)
    assert 0 < series(tmp_path, "2 optimizer/angle_to_adam")[1] < 90


def test_only_what_moves_is_written(tmp_path):
    model = Small()
    model.linear.bias.requires_grad_(False)
    optimizer = ours(model)
    backward(model)
    model.linear.weight.grad = None
    with Monitor(optimizer, tmp_path, per_tensor=True, angle_to_adam=True):
        optimizer.step()
    tags = [tag.split("/") for tag in read(tmp_path).Tags()["scalars"]]
    written = {name for group, name in tags if not group.startswith(("1", "2"))}
    assert written == copy_of(model).keys() - {"linear.bias", "linear.weight"}


def test_a_resumed_run_takes_back_what_will_come_again(tmp_path):
    model = Small()
    optimizer = ours(model)
    with Monitor(optimizer, tmp_path, every=2) as watcher:
        run(model, optimizer, 6, watcher)
    with Monitor(optimizer, tmp_path, every=2, first_step=3) as watcher:
        losses = run(model, optimizer, 2, watcher)
    shown = read(tmp_path).Scalars("1 training/loss")
    assert [event.step for event in shown] == [0, 2, 4]
    assert shown[2].value == losses[1].item()


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(OptionError, match='pip install "ngopt\\[monitor\\]"'):
        Monitor(ours(Small()), tmp_path)


@pytest.mark.parametrize("option", ["every", "pictures"])
def test_options_that_make_no_sense(option, tmp_path):
    with pytest.raises(OptionError, match=f"{option}=0"):
        Monitor(ours(Small()), tmp_path / "new", **{option: 0})
    assert not (tmp_path / "new").exists()


def test_sharded_parameters_are_refused(tmp_path):
    param = nn.Parameter(torch.zeros(2))
    param.device_mesh = None
    with pytest.raises(OptionError, match="sharded"):
        Monitor(torch.optim.SGD([param]), tmp_path)


def test_public_name():
    assert ngopt.Monitor is Monitor
