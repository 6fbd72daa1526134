"""Loops over entries as Triton kernels, for GPUs."""
