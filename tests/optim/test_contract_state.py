import copy
import gc
import io
import pickle
import subprocess
import sys
import weakref

import pytest
import torch

from tests.contract import CASES, Small, assert_same, copy_of, every_case, train

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def _trained(case, dtype=torch.float32, steps=2):
    model = Small().to(dtype)
    optimizer = case.build(model, weight_decay=0.1)
    train(model, optimizer, steps)
    return model, optimizer


def _tensors(optimizer):
    return {
        f"{i}.{key}": value
        for i, state in enumerate(optimizer.state.values())
        for key, value in state.items()
        if torch.is_tensor(value)
    }


def _through_a_file(data):
    file = io.BytesIO()
    torch.save(data, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_case
@every_dtype
def test_resumes_bitwise_from_a_file(case, dtype):
    model, optimizer = _trained(case, dtype)
    saved = _through_a_file({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    other = Small().to(dtype)
    resumed = case.build(other)
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    assert_same(_tensors(optimizer), _tensors(resumed))
    train(model, optimizer, 2, start=2)
    train(other, resumed, 2, start=2)
    assert_same(copy_of(model), copy_of(other))
    assert_same(_tensors(optimizer), _tensors(resumed))


def resume_all(path):
    """Resume every case and dtype, in whatever process this runs; return the parameters."""
    results = {}
    for (name, dtype), saved in torch.load(path, weights_only=True).items():
        case = next(case for case in CASES if case.name == name)
        model = Small().to(DTYPES[dtype])
        optimizer = case.build(model)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        train(model, optimizer, 2, start=2)
        results[name, dtype] = copy_of(model)
    return results


def test_resumes_bitwise_in_a_new_process(tmp_path):
    saved, expected = {}, {}
    for case in CASES:
        for dtype in DTYPES if case.name in ("Adam", "ours-Adam", "ours-model") else ():
            model, optimizer = _trained(case, DTYPES[dtype])
            data = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            saved[case.name, dtype] = copy.deepcopy(data)
            train(model, optimizer, 2, start=2)
            expected[case.name, dtype] = copy_of(model)
    torch.save(saved, tmp_path / "saved.pt")
    code = (
        "import sys, torch; torch.set_num_threads(1); from tests.optim import test_contract_state;"
        "torch.save(test_contract_state.resume_all(sys.argv[1]), sys.argv[2])"
    )
    files = [str(tmp_path / "saved.pt"), str(tmp_path / "resumed.pt")]
    subprocess.run([sys.executable, "-c", code, *files], check=True)
    resumed = torch.load(files[1], weights_only=True)
    assert resumed.keys() == expected.keys()
    for key, params in expected.items():
        assert_same(params, resumed[key])


@every_case
def test_loading_does_not_change_what_is_loaded_and_can_be_repeated(case):
    _, optimizer = _trained(case)
    saved = _through_a_file(optimizer.state_dict())
    before = copy.deepcopy(saved)
    other = Small()
    resumed = case.build(other)
    results = []
    start = copy.deepcopy(other.state_dict())
    for _ in range(2):
        other.load_state_dict(start)
        resumed.load_state_dict(copy.deepcopy(saved))
        train(other, resumed, 2)
        results.append(copy_of(other))
    assert_same(*results)
    resumed.load_state_dict(saved)
    flat = {f"{i}.{k}": v for i, s in saved["state"].items() for k, v in s.items()}
    flat_before = {f"{i}.{k}": v for i, s in before["state"].items() for k, v in s.items()}
    assert_same(
        {k: v for k, v in flat_before.items() if v is not None},
        {k: v for k, v in flat.items() if v is not None},
    )
    assert saved["param_groups"] == before["param_groups"]


@every_case
def test_a_fresh_state_dict_loads(case):
    fresh = case.build(Small()).state_dict()
    assert fresh["state"] == {}
    model, optimizer = _trained(case)
    optimizer.load_state_dict(fresh)
    assert not optimizer.state
    train(model, optimizer, 1)


@every_case
def test_options_come_with_the_state_and_missing_ones_are_filled(case):
    _, optimizer = _trained(case)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["lr"] = 0.125
    del saved["param_groups"][0]["maximize"]
    other = Small()
    resumed = case.build(other)
    resumed.load_state_dict(saved)
    assert resumed.param_groups[0]["lr"] == 0.125
    train(other, resumed, 1)


@every_case
def test_groups_of_other_sizes_are_refused_and_change_nothing(case):
    model, optimizer = _trained(case)
    two = case.of_groups([case.group(Small()), case.group(Small())])
    before = _tensors(optimizer)
    with pytest.raises(ValueError, match="parameter"):
        optimizer.load_state_dict(two.state_dict())
    assert_same(before, _tensors(optimizer))
    train(model, optimizer, 1)


@every_case
def test_state_dict_hooks(case):
    _, optimizer = _trained(case)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda _: calls.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda _, saved: {**saved, "note": 1})
    saved = optimizer.state_dict()
    assert saved["note"] == 1

    def lower(_, loaded):
        calls.append("before loading")
        loaded = copy.deepcopy(loaded)
        loaded["param_groups"][0]["lr"] = 0.5
        return loaded

    optimizer.register_load_state_dict_pre_hook(lower)
    optimizer.register_load_state_dict_post_hook(
        lambda o: calls.append([torch.is_tensor(v) for s in o.state.values() for v in s.values()])
    )
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert calls[:2] == ["before saving", "before loading"]
    assert True in calls[2]


@every_case
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_with_the_model_and_goes_on_alike(case, copier):
    model, optimizer = _trained(case)
    other, copied = copier((model, optimizer))
    train(model, optimizer, 2, start=2)
    train(other, copied, 2, start=2)
    assert_same(copy_of(model), copy_of(other))
    assert_same(_tensors(optimizer), _tensors(copied))
    copied.add_param_group(case.group(Small()))
    assert len(copied.param_groups) == 2
    assert len(optimizer.param_groups) == 1


@every_case
@pytest.mark.usefixtures("few_objects")
def test_an_optimizer_is_freed_with_its_last_reference(case):
    model, optimizer = _trained(case)
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None
    assert model.linear.weight.grad is not None
