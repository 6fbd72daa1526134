import json

import pytest

import ngopt
from ngopt.errors import RuleError
from ngopt.rules import MatrixGNN
from ngopt.rules.cards import card_path, rule_card
from ngopt.rules.library import save_rule

CARD = {"rule": "MatrixGNN", "lr": 1e-3, "known_weaknesses": ["Anführungszeichen"]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_rule(MatrixGNN(width=2, hidden=2), path)
    card_path(path).write_text(json.dumps(CARD, ensure_ascii=False), encoding="utf-8")
    return path


def test_card_of_a_name():
    card = ngopt.rule_card("default")
    assert card["lr"] == ngopt.load_rule("default").lr
    card["lr"] = None
    assert rule_card("default")["lr"] is not None


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "path"])
def test_card_of_a_file(path, kind):
    assert rule_card(kind(path)) == CARD


def test_card_is_beside_the_file(tmp_path):
    assert card_path(tmp_path / "a.b.safetensors") == tmp_path / "a.b.json"


def test_unknown_name():
    with pytest.raises(RuleError, match="no rule `adamant`"):
        rule_card("adamant")


def test_without_card(path):
    card_path(path).unlink()
    with pytest.raises(RuleError, match=r"(?s)`.*mine\.safetensors` has no card: .*mine\.json"):
        rule_card(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b'{"rule": "Matr', "is damaged"),
        (b'{"rule": "\xff"}', "is damaged"),
        (b"[]", "holds a list, no card"),
        (b"[" * 100_000, "is damaged"),
    ],
)
def test_damaged_card(path, content, message):
    card_path(path).write_bytes(content)
    with pytest.raises(RuleError, match=message):
        rule_card(path)
