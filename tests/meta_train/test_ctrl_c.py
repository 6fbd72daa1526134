"""Ctrl-C: a step that has begun is finished, another Ctrl-C stops at once."""

import os
import signal

import pytest

from meta_train.ctrl_c import CtrlC


def press():
    os.kill(os.getpid(), signal.SIGINT)


def step(ctrl_c, presses, done):
    with ctrl_c, ctrl_c.put_off():
        for _ in range(presses):
            press()
        done.append("step")


def test_a_step_is_finished_first():
    done, said = [], []
    ctrl_c = CtrlC(said.append)
    with pytest.raises(KeyboardInterrupt):
        step(ctrl_c, 1, done)
    assert done == ["step"]
    assert not ctrl_c.broken
    assert len(said) == 1


def test_between_steps_it_stops_at_once():
    with CtrlC(lambda text: None) as ctrl_c:
        with ctrl_c.put_off():
            pass
        with pytest.raises(KeyboardInterrupt):
            press()
    assert not ctrl_c.broken


def test_a_second_one_stops_at_once():
    done, ctrl_c = [], CtrlC(lambda text: None)
    with pytest.raises(KeyboardInterrupt):
        step(ctrl_c, 2, done)
    assert not done
    assert ctrl_c.broken


def test_afterwards_it_is_as_before():
    before = signal.getsignal(signal.SIGINT)
    with CtrlC(lambda text: None):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
    with CtrlC(lambda text: None, active=False):
        assert signal.getsignal(signal.SIGINT) == before
