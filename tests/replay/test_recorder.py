import pytest
import torch

from ngopt.replay.instructions import Launch
from ngopt.replay.recorder import Role, UnsupportedError, copied, overlap, record


def calls(function, *arguments):
    with torch.no_grad():
        recording, _ = record(function, arguments)
    return recording


def test_looking_at_memory_in_another_way_is_no_call():
    recording = calls(
        lambda a: a.view(6).unflatten(0, (3, 2)).mT[0].expand(2, 3), torch.randn(2, 3)
    )
    assert not recording.calls
    assert recording.results[0].storage == 0
    assert recording.results[0].stride == (0, 2)


def test_memory_that_was_there_is_constant_and_is_kept():
    weight = torch.randn(3)
    recording = calls(lambda a: a * weight, torch.randn(3))
    roles = [storage.role for storage in recording.storages]
    assert roles == [Role.GIVEN, Role.CONSTANT, Role.MADE]
    assert recording.storages[1].tensor is weight


def test_memory_that_is_used_again_is_another_storage():
    def function(a):
        for _ in range(20):
            a = a + 1
        return a

    recording = calls(function, torch.randn(1000))
    assert len(recording.storages) == 21
    assert len({call.result.storage for call in recording.calls}) == 20


def test_parts_of_arguments_are_told_apart():
    whole = torch.randn(4, 3)
    recording = calls(lambda a, b: (a[1:] + 0, b[:, 1] + 0), whole, torch.randn(2, 3))
    first, second = (call.arguments[0] for call in recording.calls)
    assert (first.storage, first.offset) == (0, 12)
    assert (second.storage, second.offset, second.stride) == (1, 4, (3,))


def test_arguments_that_share_memory():
    whole = torch.randn(6)
    assert overlap([whole, whole[2:3]])
    assert not overlap([whole[:3], whole[3:], torch.randn(2)])
    recording = calls(lambda a, b: (a + 0, b + 0), whole, whole[1:3])
    assert [call.arguments[0].storage for call in recording.calls] == [0, 1]
    assert [call.arguments[0].offset for call in recording.calls] == [0, 0]


@pytest.mark.parametrize(
    "function",
    [
        lambda a: a * torch.rand(()),
        lambda a: torch.nn.functional.dropout(a, 0.5),
        lambda a: a * float(a.sum()),
        lambda a: a if a.sum() > 0 else -a,
        lambda a: a.add_(1),
        lambda a: torch.eye(3).add_(a),
        lambda a: a.to("meta"),
    ],
    ids=["random", "dropout", "number", "branch", "argument", "constant", "device"],
)
def test_what_another_run_would_not_repeat(function):
    with pytest.raises(UnsupportedError):
        calls(function, torch.ones(3))


def test_compiled_loops_are_calls():
    from ngopt.rules.matrix_gnn import MatrixGNN
    from tests.rules.rule_inputs import draw, zoo_graph

    described, rule = zoo_graph("resnet"), MatrixGNN()
    parameters = draw(described, 0, torch.float32)
    state = rule.init_state(parameters, described)
    recording = calls(
        lambda p, g, s: rule(p, g, s, described),
        parameters,
        draw(described, 1, torch.float32),
        state,
    )
    loops = [call for call in recording.calls if isinstance(call, Launch)]
    assert len(loops) > 20
    assert all(loop.pointer and loop.inputs and loop.outputs for loop in loops)


@pytest.mark.parametrize("stride", [(0, 0), (0, 1), (1, 2), (1, 1), (7, 2)])
def test_copies_keep_numbers_and_strides(stride):
    tensor = torch.randn(30)[3:].as_strided((2, 3), stride, 3)
    (copy,) = copied((tensor,))
    assert torch.equal(copy, tensor)
    assert copy.stride() == stride
    assert not overlap([copy, tensor])
    assert [part.shape for part in copied([torch.empty(0, 3)])] == [(0, 3)]
