import inspect

import pytest

from ngopt import errors

CLAIMS = {
    "NgoptError": Exception,
    "TraceError": errors.NgoptError,
    "GraphError": ValueError,
    "RuleError": ValueError,
    "EncoderError": ValueError,
    "OptionError": ValueError,
    "GradientError": RuntimeError,
    "CaptureError": RuntimeError,
}


def test_the_table_is_complete():
    assert set(CLAIMS) == {name for name, _ in inspect.getmembers(errors, inspect.isclass)}


@pytest.mark.parametrize("name", CLAIMS)
def test_every_error_can_be_caught_as_ours_and_as_what_it_claims_to_be(name):
    error = getattr(errors, name)
    for caught in (errors.NgoptError, CLAIMS[name]):
        with pytest.raises(caught, match="asked"):
            raise error("asked")
