"""Files of rules that are damaged or lie: refused by a clear error, without memory and code."""

import io
import json
import os
import pickle
import struct
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from ngopt.errors import RuleError
from ngopt.rules.library import FORMAT, fingerprint, list_rules, load_rule, rule_path, save_rule
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.rule_inputs import randomize

BOUND = 2**26
"""Bytes that a refusal may cost; the smallest of the lies below would take many times as much."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Content of a sound file, and where its weights begin."""
    path = tmp_path_factory.mktemp("sound") / "rule.safetensors"
    save_rule(randomize(MatrixGNN(width=2, hidden=2)), path)
    content = path.read_bytes()
    return content, 8 + struct.unpack("<Q", content[:8])[0]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A file in a folder of its own."""
    return tmp_path_factory.mktemp("damaged") / "rule.safetensors"


def memory(name):
    """What the process has in memory now (`VmRSS`) or had at most (`VmHWM`), in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def refused(path, match=None):
    """The file is refused at little cost, and nothing appears beside it."""
    beside = sorted(path.parent.iterdir())
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
    with pytest.raises(RuleError, match=match):
        load_rule(path)
    if sys.platform == "linux":
        assert memory("VmHWM") - before < BOUND
    assert sorted(path.parent.iterdir()) == beside


def tensor(shape, end, dtype="F32"):
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


HEADERS = {
    "longer than any memory": (b"{}", 2**63),
    "longer than the file": (b"{}", 99_000_000),
    "not of text": (b"\xff\xfe{}", None),
    "a list": (b"[]", None),
    "nested deeply": (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, None),
    "more entries than fit in 64 bits": (tensor([2**40, 2**40], 4), None),
    "more entries than the file": (tensor([2**34], 2**36), None),
    "entries that overlap": (tensor([4], 16) | {"v": tensor([4], 16)["w"]}, None),
    "a negative size": (tensor([-1], 4), None),
    "a size that is no number": (tensor(["all"], 4), None),
    "a huge number": (tensor([10**400], 4), None),
    "objects": (tensor([1], 4, "PYOBJ"), None),
    "other tensors than bytes": (tensor([4], 4), None),
    "metadata of numbers": ({"__metadata__": {"format": 1}}, None),
    "metadata of lists": ({"__metadata__": {"format": [FORMAT]}}, None),
    "no metadata": (tensor([1], 4), None),
}


@pytest.mark.parametrize(("header", "length"), HEADERS.values(), ids=HEADERS)
def test_headers_that_lie(header, length, place):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    place.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + b"0000")
    refused(place, "is damaged|holds no rule of this version")


@pytest.mark.parametrize(
    "name", ["../../outside", "/outside", "C:\\outside", "", "\0", "x" * 10**6]
)
def test_names_are_no_places(name, place):
    header = {"__metadata__": {"format": FORMAT}, name: tensor([1], 4)["w"]}
    text = json.dumps(header).encode()
    place.write_bytes(struct.pack("<Q", len(text)) + text + b"0000")
    refused(place, "its weights are not those that were saved")


KINDS = {"BOOL": 8, "U8": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F16": 4, "I64": 1, "C64": 1}
"""How many entries eight bytes are."""


@pytest.mark.parametrize("dtype", KINDS)
def test_weights_of_other_kinds(dtype, place):
    header = {"__metadata__": {"format": FORMAT}} | tensor([KINDS[dtype]], 8, dtype)
    text = json.dumps(header).encode()
    place.write_bytes(struct.pack("<Q", len(text)) + text + b"\x07" * 8)
    refused(place, "its weights are not those that were saved")


@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_off_anywhere(whole, place, part):
    place.write_bytes(whole[0][: int(part * len(whole[0]))])
    refused(place, "is damaged")


@given(content=st.binary(max_size=200), prefix=st.sampled_from([b"", struct.pack("<Q", 100)]))
def test_any_bytes(place, content, prefix):
    place.write_bytes(prefix + content)
    refused(place)


@given(part=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_weight_that_is_not_what_was_saved(whole, place, part, flip):
    content, start = bytearray(whole[0]), whole[1]
    content[start + int(part * (len(content) - start))] ^= flip
    place.write_bytes(content)
    refused(place, "its weights are not those that were saved")


@pytest.mark.parametrize("name", list_rules())
def test_rules_of_the_library_are_checked(name, place):
    content = bytearray(rule_path(name).read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    refused(place, "its weights are not those that were saved")


class Harmful:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def torch_bytes(item):
    file = io.BytesIO()
    torch.save(item, file)
    return file.getvalue()


@pytest.mark.parametrize("dump", [pickle.dumps, torch_bytes])
def test_no_code_is_run(dump, place, tmp_path):
    place.write_bytes(dump(Harmful(tmp_path / "trace")))
    refused(place, "is damaged")
    assert not (tmp_path / "trace").exists()


def rewritten(content, place, theta=lambda tensor: tensor, **changes):
    """Save other weights or metadata, with the right sum."""
    place.write_bytes(content)
    with safe_open(place, "pt") as file:
        metadata = file.metadata()
        weights = {name: theta(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    metadata["sha256"] = fingerprint(weights)
    save_file(weights, place, {**metadata, **changes})


def shown(config):
    return str(config)[:40]


CONFIGS = {
    "impossible": [{"width": -1}, {"width": 0}, {"hidden": -3}, {"seed": "a"}],
    "gigantic": [{"hidden": 2**40}, {"width": 2**20}, {"rounds": 10**30}],
    "nested deeply": ["[" * 100_000 + "]" * 100_000, '{"a":' * 5_000 + "1" + "}" * 5_000],
    "no object": ["null", "3", '"MatrixGNN"', "[[]]"],
    "no number": [{"width": "2"}, {"width": None}, {"width": 2.5}, {"width": [2]}, {"width": {}}],
    "huge": [{"width": 10**30}, "1" * 10_000, {"seed": 10**30}],
    "no choice": [{"momentum_dtype": ["float32"]}, {"square_dtype": 3}, {"positions": 3}],
    "no base_update": [
        {"base_update": 3},
        {"base_update": {"trust": None}},
        {"base_update": {"trust": "NaN"}},
    ],
    "code": [{"__class__": "os.system"}, {"self": 1}, {"base_update": {"__init__": 1}}],
}


@pytest.mark.parametrize("config", [c for kind in CONFIGS.values() for c in kind], ids=shown)
def test_configs_that_build_nothing(config, whole, place):
    if isinstance(config, dict):
        config = json.dumps({**MatrixGNN(width=2, hidden=2).config, **config})
    rewritten(whole[0], place, config=config)
    refused(place, "does not tell how to build its `MatrixGNN`")


@pytest.mark.parametrize("name", ["", "Rule", "NetworkRule", "os.system", "__class__", "Linear"])
def test_classes_that_are_no_rules(name, whole, place):
    rewritten(whole[0], place, rule=name)
    refused(place, "none of the known rules")


def test_weights_of_many_times_the_size(whole, place):
    rewritten(whole[0], place, lambda tensor: tensor.expand(*[2] * 3, *tensor.shape).contiguous())
    refused(place, "do not fit a MatrixGNN")


@pytest.mark.parametrize("lr", ["inf", "nan", "-1", "1e400", "1" * 5000])
def test_learning_rates_that_make_no_sense(lr, whole, place):
    rewritten(whole[0], place, lr=lr)
    refused(place, "does not tell how to build its `MatrixGNN`")


NUMBERS = {
    "integers": torch.Tensor.long,
    "bits": torch.Tensor.bool,
    "complex": lambda tensor: tensor.to(torch.complex64),
    "not finite": lambda tensor: tensor / 0,
}


@pytest.mark.parametrize("theta", NUMBERS.values(), ids=NUMBERS)
def test_weights_that_are_no_finite_numbers(theta, whole, place):
    rewritten(whole[0], place, theta)
    refused(place, "are not all finite numbers")


@given(part=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_byte_that_is_flipped_anywhere_is_refused_or_touches_no_weight(whole, place, part, flip):
    content = bytearray(whole[0])
    content[int(part * len(content))] ^= flip
    place.write_bytes(content)
    try:
        found = load_rule(place)
    except RuleError:
        return
    expected = randomize(MatrixGNN(width=2, hidden=2)).state_dict()
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, expected[name])
