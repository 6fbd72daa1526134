"""Emulators: distances between answers, what they are told, and what they learn."""

import pytest
import torch
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.reading.behaviour import observer_of
from meta_train.reading.emulator import (
    KEPT,
    Constant,
    Embedding,
    Emulating,
    Emulation,
    Emulator,
    read_kept,
    reverse_kl,
    total_variation,
)
from meta_train.reading.fit import fit
from meta_train.reading.options import FitOptions
from meta_train.reading.readers import encoder_of
from meta_train.zoo.languages import TOKENS


def logarithms(*rows):
    return torch.tensor(rows, dtype=torch.float64).log()


def test_total_variation_is_from_0_to_1():
    same, other = logarithms([0.25, 0.75]), logarithms([1.0, 0.0])
    assert total_variation(same, same).tolist() == [0]
    assert total_variation(other, logarithms([0.0, 1.0])).tolist() == [1]
    assert total_variation(same, other).tolist() == [0.75]


def test_divergence_is_that_of_the_truth_from_answers():
    answers, true = logarithms([0.5, 0.5]), logarithms([0.25, 0.75])
    expected = 0.5 * torch.tensor(2.0).log() + 0.5 * torch.tensor(2 / 3).log()
    assert reverse_kl(answers, true).item() == pytest.approx(float(expected))
    reference = nn.functional.kl_div(true, answers, log_target=True, reduction="sum")
    assert reverse_kl(answers, true).item() == pytest.approx(float(reference))


def emulator():
    return Emulator(TOKENS, TOKENS, width=3, units=5, layers=2, seed=0)


def test_an_emulator_reads_the_encoding_in_place_of_the_beginning():
    network, read = emulator(), torch.rand(2, 3, 4, TOKENS)
    encodings = torch.randn(2, 3)
    answers = network(encodings, read)
    assert answers.shape == (2, 3, 4, TOKENS)
    torch.testing.assert_close(answers.exp().sum(-1), torch.ones(2, 3, 4))
    other = read.clone()
    other[:, :, 0] = 0
    assert torch.equal(network(encodings, other), answers)
    assert (network(encodings + 1, read) - answers).abs().flatten(1).max(1).values.min() > 1e-4


def test_an_emulator_cannot_see_ahead():
    network, read, encodings = emulator(), torch.rand(1, 1, 4, TOKENS), torch.randn(1, 3)
    other = read.clone()
    other[:, :, 3] += 1
    before, after = network(encodings, read), network(encodings, other)
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.equal(before[:, :, 3], after[:, :, 3])


@pytest.fixture
def built(rnn_zoo):
    known = rnn_zoo.networks(rnn_zoo.split("train"))

    def build(text):
        encoder = Constant() if text == "constant" else encoder_of(text, known, 0)
        return Emulation(Embedding(encoder, 3, 0), emulator())

    return build


def reading(zoo):
    return Emulating(zoo, observer_of(zoo), sequences=2, judged=3)


def test_embeddings_have_length_1(rnn_zoo, built):
    networks = rnn_zoo.networks(torch.arange(5))
    for text in ("fixed_probing:units=4,length=3", "constant"):
        embedded = built(text).encoder(networks)
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(5))
        assert torch.equal(embedded[0], embedded[1]) == (text == "constant")


def test_scores_are_the_same_each_time_and_those_of_snapshots(rnn_zoo, built):
    module, task = built("fixed_probing:units=4,length=3").eval(), reading(rnn_zoo)
    one, other = task.evaluate(module, "validation"), task.evaluate(module, "validation")
    assert one == other
    assert set(one) == {"total variation", "reverse KL"}
    each = task.predict(module, "validation")
    assert each.shape == rnn_zoo.split("validation").shape
    assert float(each.mean()) == pytest.approx(one["total variation"])


def test_training_gets_closer_to_the_networks(rnn_zoo, built, tmp_path):
    options = FitOptions(epochs=30, batch=8, lr=1e-2, warmup=1, evaluations=2, device="cpu")
    module, task = built("fixed_probing:units=4,length=3"), reading(rnn_zoo)
    before = task.evaluate(module.eval(), "validation")["total variation"]
    fit(module, task, options, 0, tmp_path, "test")
    assert task.evaluate(module, "validation")["total variation"] < 0.9 * before


def test_gradients_of_encoder_and_emulator_are_shortened_by_themselves(rnn_zoo, built, tmp_path):
    """A step of plain gradient descent moves each by at most what clipping leaves."""
    module, task = built("fixed_probing:units=4,length=3"), reading(rnn_zoo)
    parts = task.parts(module)
    assert parts == [module.encoder, module.emulator]
    everything = {id(p) for p in module.parameters()}
    assert {id(p) for part in parts for p in part.parameters()} == everything
    lengths = []
    clip = nn.utils.clip_grad_norm_

    def keep(parameters, most):
        parameters = list(parameters)
        norm = clip(parameters, most)
        after = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        lengths.append((float(norm), float(after)))
        return norm

    options = FitOptions(epochs=1, batch=36, clip=1e-4, warmup=0, evaluations=1, device="cpu")
    nn.utils.clip_grad_norm_ = keep
    try:
        fit(module, task, options, 0, tmp_path, "test")
    finally:
        nn.utils.clip_grad_norm_ = clip
    assert len(lengths) == 2
    for before, after in lengths:
        assert before > 1e-4
        assert after == pytest.approx(1e-4, rel=2e-2)


def test_encoders_are_kept_with_the_encodings_of_all_snapshots(rnn_zoo, built, tmp_path):
    module = built("fixed_probing:units=4,length=3").eval()
    reading(rnn_zoo).keep(module, tmp_path)
    state, encodings = read_kept(tmp_path)
    again = built("fixed_probing:units=4,length=3")
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
        again.encoder.load_state_dict(state)
        expected = again.encoder(rnn_zoo.networks(torch.arange(len(rnn_zoo))))
    torch.testing.assert_close(encodings, expected)


def test_a_missing_or_damaged_encoder_is_refused(tmp_path):
    with pytest.raises(MetaTrainError, match="trains it again"):
        read_kept(tmp_path)
    (tmp_path / KEPT).write_bytes(b"nothing of use")
    with pytest.raises(MetaTrainError, match="trains it again"):
        read_kept(tmp_path)
