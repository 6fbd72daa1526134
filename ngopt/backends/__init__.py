"""Functions of single entries as one loop over a tensor, compiled from the plain definition."""
