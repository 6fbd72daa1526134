"""Run a kernel on tensors."""

import numpy as np
import torch

from ngopt.backends.tables import Tables, addresses


def run(kernel, arguments, results=(), shape=None, lead=0):
    """Results of a kernel on matrices.

    Args:
        kernel: the kernel.
        arguments: tensors, the first dimensions of which are those of `lead`.
        results: shapes and dtypes of the results behind `lead`; by default one that is stored.
        shape: rows and columns; by default those of the first argument.
        lead: number of dimensions in front.
    """
    first = arguments[0]
    rows, columns = shape or first.shape[lead:]
    front = first.shape[:lead]
    found = [
        torch.zeros((*front, *sizes), dtype=dtype)
        for sizes, dtype in results or [((rows, columns), torch.float32)]
    ]
    given = [argument.contiguous() for argument in arguments]
    many = max(1, front.numel())
    tables = [np.stack([addresses(t, lead) for t in some], 1) for some in (given, found)]
    tables = [np.ascontiguousarray(table) for table in tables]
    among = Tables(torch.device("cpu"), tables)
    kernel.on(np.tile(np.array([[rows, columns, columns]]), (many, 1)), *tables, among)()
    return found
