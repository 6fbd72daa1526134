"""Running many LSTMs at once: against torch's own, step by step, and models that cannot be run."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from ngopt.encoders.networks import Stack
from ngopt.encoders.recurrent import LSTMs
from ngopt.errors import EncoderError
from tests.encoders.recurrent_networks import Speaker, speakers


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_networks_answer_as_they_do_alone(layers):
    stack = speakers(layers=layers)
    x = torch.randn(3, 5, 7, 3, dtype=torch.float64)
    together = LSTMs.of(stack).run(x)
    for number in range(3):
        own = {name: p[number] for name, p in stack.parameters.items()}
        alone = functional_call(stack.model.double(), own, (x[number],))
        torch.testing.assert_close(together[number], alone, rtol=0, atol=1e-12)


def test_steps_give_what_whole_sequences_give():
    networks = LSTMs.of(speakers())
    x = torch.randn(3, 2, 6, 3, dtype=torch.float64)
    state, answers = networks.begin(2), []
    for step in x.unbind(2):
        answer, state = networks.step(step, state)
        answers.append(answer)
    torch.testing.assert_close(torch.stack(answers, 2), networks.run(x), rtol=0, atol=1e-12)


def test_gradients_reach_weights_and_inputs():
    stack = speakers()
    parameters = {name: p.requires_grad_() for name, p in stack.parameters.items()}
    x = torch.randn(3, 1, 4, 3, dtype=torch.float64, requires_grad=True)
    LSTMs.from_parameters(parameters, "core", "head").run(x).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in parameters.values())
    assert x.grad.abs().min() > 0


def test_sizes_are_known():
    networks = LSTMs.of(speakers(count=5, inputs=2, outputs=7))
    assert (len(networks), networks.inputs, networks.outputs) == (5, 2, 7)


@pytest.mark.parametrize(
    "model",
    [
        Speaker(bidirectional=True),
        Speaker(proj_size=2),
        Speaker(bias=False),
        nn.Sequential(nn.Linear(3, 3)),
        nn.Sequential(nn.LSTM(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)),
        nn.Sequential(nn.LSTM(3, 3), nn.LayerNorm(3), nn.Linear(3, 3)),
        nn.GRU(3, 3),
    ],
    ids=lambda model: str(model)[:20],
)
def test_other_models_are_refused(model):
    with pytest.raises(EncoderError, match="cannot be run step by step"):
        LSTMs.of(Stack(speakers().graph, speakers().parameters, model))


def test_a_stack_without_a_model_is_refused():
    stack = speakers()
    with pytest.raises(EncoderError, match="no model"):
        LSTMs.of(Stack(stack.graph, stack.parameters))
