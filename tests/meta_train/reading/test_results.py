"""Tables of readers over their seeds."""

import pytest
import torch

from meta_train.reading.pictures import confusion
from meta_train.reading.report import markdown
from meta_train.reading.results import Result, Truth, first_of_each, table
from meta_train.reading.scores import ACCURACY

TEST = Truth(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, 2]))
ENTRY = [{"step": 0, "epoch": 0.0, "validation": {"accuracy": 0.5}, "test": {"accuracy": 0.5}}]


def result(reader, seed, predicted, baseline=False):
    plain = {"validation": predicted, "test": predicted}
    return Result(reader, seed, plain, ENTRY, baseline=baseline)


def small_table():
    results = [
        result("constant", 0, [0, 0, 0, 0], baseline=True),
        result("good", 0, [0, 1, 1, 0]),
        result("good", 1, [0, 1, 1, 1]),
    ]
    return table(results, [ACCURACY], TEST, TEST, 200)


def test_scores_are_means_over_seeds():
    constant, good = small_table().rows
    assert constant.test["accuracy"].value == 0.5
    assert good.test["accuracy"].value == pytest.approx((1 + 0.75) / 2)
    assert good.spread["accuracy"] == pytest.approx(0.25 / 2**0.5)
    assert constant.spread["accuracy"] is None


def test_differences_are_paired():
    # Both are wrong on the same network, so their difference is 0 on every resample.
    results = [result("one", 0, [0, 1, 1, 1]), result("other", 0, [0, 1, 1, 1])]
    (difference,) = table(results, [ACCURACY], TEST, TEST, 200).differences
    assert difference.interval == (0, 0, 0)
    assert not difference.sure


def test_a_report_has_every_reader_and_says_what_is_missing():
    text = markdown(small_table(), "Title", ["Note."], planned=3)
    assert "**Not finished: 2 of 3 runs.**" in text
    assert "constant (baseline)" in text
    assert "`good`" in text


def test_shares_of_confusion():
    found = confusion(torch.tensor([0, 1, 1, 1]), TEST.values, 3)
    assert found.tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 0]]


def test_first_result_of_each_reader():
    results = [result("b", 0, []), result("a", 0, []), result("b", 1, [])]
    assert [(r.reader, r.seed) for r in first_of_each(results)] == [("b", 0), ("a", 0)]
