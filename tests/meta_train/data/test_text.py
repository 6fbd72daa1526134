import pytest
import torch

from meta_train.data.text import ALPHABET, TEXTS, encoded, text
from meta_train.errors import MetaTrainError
from meta_train.tasks.task import SPLITS


@pytest.fixture
def shakespeare(tmp_path, monkeypatch):
    monkeypatch.setenv("NGOPT_DATA", str(tmp_path))
    file = tmp_path / "tinyshakespeare" / "input.txt"
    file.parent.mkdir()
    written = "".join(chr(32 + i % 95) for i in range(400))
    file.write_text(written)
    return written


def decoded(codes):
    return "".join(ALPHABET[code] for code in codes)


def test_windows_and_the_characters_after(shakespeare):
    dataset = text("tinyshakespeare", 5)
    inputs, targets = dataset.splits["train"]
    assert inputs.shape == targets.shape == (355, 5)
    assert inputs.dtype == torch.int64
    for start in (0, 100, 354):
        assert decoded(inputs[start]) == shakespeare[start : start + 5]
        assert decoded(targets[start]) == shakespeare[start + 1 : start + 6]
    assert dataset.classes == len(ALPHABET) == 96


def test_splits_are_disjoint_parts_of_the_text(shakespeare):
    dataset = text("tinyshakespeare", 3)
    parts = []
    for split in SPLITS:
        inputs, targets = dataset.splits[split]
        parts.append(decoded([*inputs[:, 0].tolist(), *inputs[-1, 1:].tolist(), targets[-1, -1]]))
    assert "".join(parts) == shakespeare
    assert list(map(len, parts)) == [360, 20, 20]


def test_batches_are_contiguous_windows(shakespeare):
    inputs, targets = text("tinyshakespeare", 4).sample(
        3, 6, torch.Generator().manual_seed(0), "train"
    )
    assert inputs.shape == targets.shape == (3, 6, 4)
    assert torch.equal(inputs[..., 1:], targets[..., :-1])
    for window in inputs.flatten(0, 1):
        assert decoded(window) in shakespeare


def test_windows_share_memory(shakespeare):
    for dataset in (text("tinyshakespeare", 9), text("tinyshakespeare", 9).to(torch.device("cpu"))):
        for tensors in dataset.splits.values():
            assert all(tensor.untyped_storage().nbytes() <= 400 * 8 for tensor in tensors)


def test_the_embedded_text_needs_no_files(tmp_path, monkeypatch):
    monkeypatch.setenv("NGOPT_DATA", str(tmp_path))
    dataset = text("descriptions", 16)
    assert len(dataset.splits["train"][0]) > 10_000
    assert "Iris" in decoded(dataset.splits["train"][0][:, 0])


@pytest.mark.parametrize("name", TEXTS)
def test_almost_nothing_of_a_text_is_left_out(name, shakespeare, tmp_path):
    original = TEXTS[name](tmp_path)
    assert 0.999 * len(original) <= len(encoded(original)) <= len(original)


def test_characters_outside_the_alphabet_are_left_out():
    assert decoded(encoded("na\u00efve\t\r\nend")) == "nave\nend"


@pytest.mark.parametrize("length", [0, 20])
def test_a_length_that_cannot_be_had(length, shakespeare):
    with pytest.raises(MetaTrainError, match=rf"length={length}.*\n.*from 1 to 19"):
        text("tinyshakespeare", length)
    assert len(text("tinyshakespeare", 19).splits["test"][0]) == 1


def test_an_unknown_name():
    with pytest.raises(MetaTrainError, match=r"no text `poems`.\n.*descriptions, tinyshakespeare"):
        text("poems", 8)


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("NGOPT_DATA", str(tmp_path))
    with pytest.raises(MetaTrainError, match=r"tinyshakespeare/input\.txt` from https"):
        text("tinyshakespeare", 8)
