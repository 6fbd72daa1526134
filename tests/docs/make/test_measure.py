import os
import sys
import time

import pytest

from docs.make.measure import alone, measured

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")


def test_a_call_in_a_process_of_its_own():
    assert alone(os.getenv, "OMP_NUM_THREADS") == "1"
    assert alone(os.getpid) != os.getpid()


def test_what_takes_too_long_is_stopped():
    found = alone(time.sleep, 60, seconds=0.1)
    assert found.keys() == {"stopped", "MiB"}
    assert found["stopped"] < 60


def test_what_takes_too_much_memory_is_stopped():
    assert alone(time.sleep, 60, mib=1)["MiB"] > 1


def test_a_failure_is_told(capfd):
    with pytest.raises(RuntimeError, match=r"fsum.* has failed"):
        alone(fsum, "no numbers")
    assert "TypeError" in capfd.readouterr().err


def fsum(numbers):
    raise TypeError(numbers)


def test_time_and_memory_of_a_call():
    calls = []
    found = measured(lambda: calls.append(bytearray(b"x" * 2**25)), repeats=3)
    assert 1 <= len(calls) <= 3
    assert found["seconds"] > 0
    assert 25 < found["MiB"] < 200
