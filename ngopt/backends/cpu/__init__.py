"""Functions of single entries as compiled loops, and products of symmetric matrices."""
