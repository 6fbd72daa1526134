import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from tests.contract import PLAIN, Small, backward, copy_of

MARKS = {"Adam": [], "ours-Adam": [], "ours": [pytest.mark.slow]}
CASES = [
    pytest.param(case, id=case.name, marks=MARKS[case.name]) for case in PLAIN if case.name in MARKS
]


pytestmark = pytest.mark.usefixtures("fresh_compiler")


@pytest.mark.filterwarnings("ignore:Profiler record function")
@pytest.mark.filterwarnings("ignore:.*Dynamo:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_the_second_step_compiles_nothing_new(case):
    model = Small()
    twin = copy.deepcopy(model)
    eager, optimizer = case.build(twin), case.build(model)
    counter = CompileCounter()
    step = torch.compile(optimizer.step, backend=counter)
    counts = []
    for seed in range(4):
        backward(model, seed)
        backward(twin, seed)
        step()
        eager.step()
        counts.append((counter.frame_count, counter.op_count))
    assert counts[0][0] == 1
    assert len(set(counts)) == 1
    torch.testing.assert_close(copy_of(model), copy_of(twin))


@pytest.mark.filterwarnings("ignore:Profiler record function")
def test_a_tensor_lr_can_be_scheduled_without_compiling_again():
    case = next(case for case in PLAIN if case.name == "ours-Adam")
    model = Small()
    optimizer = case.build(model, lr=torch.tensor(1e-2))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    counter = CompileCounter()
    step = torch.compile(optimizer.step, backend=counter)
    counts = []
    for seed in range(4):
        backward(model, seed)
        step()
        scheduler.step()
        counts.append(counter.frame_count)
    assert counts == [1, 1, 1, 1]
