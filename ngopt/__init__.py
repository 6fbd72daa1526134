"""A learned optimizer for PyTorch that sees the model being trained as a graph of its neurons."""
