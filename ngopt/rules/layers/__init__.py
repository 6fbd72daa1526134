"""Parts of rules that only optimizers have: memories, heads for steps, orthogonalization."""
