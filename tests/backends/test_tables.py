"""Tables of addresses, and their copies where they are read."""

import numpy as np
import torch

from benchmarks.launches import Count
from ngopt.backends.tables import Tables, addresses


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


def test_addresses_of_parts_in_the_order_of_the_first_dimensions():
    tensor = torch.zeros(6, 2, 3)[::2].transpose(0, 1)
    expected = [tensor[row, column].data_ptr() for row in range(2) for column in range(3)]
    assert addresses(tensor, 2).tolist() == expected
