import pytest

from meta_train.errors import MetaTrainError
from meta_train.spec import look_up, parse


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a", {}),
        ("a:", {}),
        ("a:n=1", {"n": 1}),
        ("a:n=-1.5e-3", {"n": -1.5e-3}),
        ("a:n=1|2|3", {"n": (1, 2, 3)}),
        ("a:on=True,off=False,none=None", {"on": True, "off": False, "none": None}),
        ("a:word=gelu,words=relu|gelu", {"word": "gelu", "words": ("relu", "gelu")}),
        ("a:mixed=1|x|None", {"mixed": (1, "x", None)}),
        ("a:path=b/c-d.txt", {"path": "b/c-d.txt"}),
        ("a:some={'b':1,'c':(2,3)},n=1", {"some": {"b": 1, "c": (2, 3)}, "n": 1}),
    ],
)
def test_options_are_numbers_words_or_tuples(text, options):
    assert parse(text) == ("a", options)


@pytest.mark.parametrize("item", ["width", "width=", "=3"])
def test_what_is_no_option_is_named(item):
    with pytest.raises(MetaTrainError, match=rf"cannot read `{item}` in `mlp:depth=1,{item}`.\n"):
        parse(f"mlp:depth=1,{item}")


def test_a_name_is_looked_up():
    assert look_up({"a": 1, "b": 2}, "b", "letter") == 2


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(MetaTrainError, match=r"no letter `c`.\n  Use one of: a, b\."):
        look_up({"b": 1, "a": 2}, "c", "letter")
