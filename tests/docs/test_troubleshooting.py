"""Each message in docs/troubleshooting.md is one that ngopt gives, and the page has no others."""

import re
import warnings

import pytest

from ngopt.errors import NgoptError
from tests.docs.mishaps import MISHAPS
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "troubleshooting.md"
MESSAGES = [block.code.strip() for block in blocks(PAGE, "text")]


def fits(message, given):
    """Whether a message of the page stands at the beginning of one that was given."""
    message, given = (" ".join(text.split()) for text in (message, given))
    return re.match(".*".join(map(re.escape, message.split("…"))), given) is not None


@pytest.mark.parametrize("beginning", MISHAPS)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_message_is_given_and_is_on_the_page(beginning, tmp_path):
    (message,) = [message for message in MESSAGES if message.startswith(beginning)]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            given = MISHAPS[beginning](tmp_path) or str(heard[-1].message)
        except (NgoptError, TypeError) as error:
            given = str(error)
    assert fits(message, given)


def test_there_is_a_way_to_each_message():
    assert len(set(MESSAGES)) == len(MESSAGES) == len(MISHAPS)


def test_a_message_must_fit():
    assert fits("there is no rule `…`.", "there is no rule `a`.\n  Use one of: b.")
    assert not fits("there is no rule `…`.", "there is no family `a`.")
