"""Tables of addresses, and their copies where they are read."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.launches import Count
from ngopt.backends import tables as module
from ngopt.backends.tables import Tables, addresses
from ngopt.errors import CaptureError


def test_tables_are_read_as_they_were_uploaded():
    tables = Tables(torch.device("cpu"), [np.array([[1, 2], [3, 4]]), np.array([[5]])])
    first, second = tables.tables
    rows, other = tables.there(first[1:]), tables.there(second)
    first[1, 0], second[0, 0] = 7, 8
    tables.upload()
    assert rows.tolist() == [[7, 4]]
    assert other.tolist() == [[8]]
    lone = np.array([[9]])
    assert tables.there(lone).tolist() == [[9]]


def test_tables_are_uploaded_when_they_have_changed():
    tables = Tables(torch.device("meta"), [np.array([1, 2])])
    with Count() as count:
        tables.upload()
        assert count.number == 0
        tables.tables[0][1] = 3
        tables.upload()
        tables.upload()
    assert count.number == 1


def test_a_capture_holds_copies_that_stay_and_steps_after_it_upload_anew(monkeypatch):
    # On the meta device, which has no pinned memory either.
    device, captured = torch.device("meta"), []
    monkeypatch.setattr(module, "_pinned", torch.empty_like)
    first = Tables(device, [np.array([1, 2])])
    first._spares = [torch.empty(2, dtype=torch.int64) for _ in range(2)]
    with monkeypatch.context() as during:
        during.setattr(module, "capturing", lambda device: True)
        for value in (3, 4):
            first.tables[0][1] = value
            with Count() as count:
                first.upload()
            captured.append(count.number)
        with pytest.raises(CaptureError, match="no memory left"):
            first.upload()
    assert captured == [2, 2]  # into memory that stays, and from there
    assert [kept.tolist() for kept in first._captured] == [[1, 3], [1, 4]]
    with Count() as count:
        first.upload()
    assert count.number == 1  # for nobody knows what graphs have left there
    first.prepare_capture()
    assert not first._spares  # not a GPU


def test_room_for_captures_is_made_on_gpus_outside_of_captures(monkeypatch):
    tables = Tables(torch.device("meta"), [np.array([1, 2])])
    monkeypatch.setattr(tables, "_there", SimpleNamespace(device=torch.device("cuda")))
    monkeypatch.setattr(module, "_pinned", torch.empty_like)
    with monkeypatch.context() as during:
        during.setattr(module, "capturing", lambda device: True)
        tables.prepare_capture()
    assert not tables._spares
    tables.prepare_capture()
    assert [spare.shape for spare in tables._spares] == [(2,)] * module.SPARES


def test_addresses_of_parts_in_the_order_of_the_first_dimensions():
    tensor = torch.zeros(6, 2, 3)[::2].transpose(0, 1)
    expected = [tensor[row, column].data_ptr() for row in range(2) for column in range(3)]
    assert addresses(tensor, 2).tolist() == expected
